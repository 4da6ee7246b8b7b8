"""Sources of CSV files: directory listings, folders, lists of URLs."""
