"""HTTP clients for a dataset's sources: CSVs, listings, URL lists, published parquet."""
