"""The results of a query: nearest rows, filters, near-duplicates, which rows may be shown."""
