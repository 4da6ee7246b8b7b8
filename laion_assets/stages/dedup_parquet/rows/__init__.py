"""Rows: normalisation, filters, and the choice of the kept row among duplicates."""
