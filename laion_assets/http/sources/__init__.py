"""Clients of a dataset's sources: CSVs, listings, lists, published parquet."""
