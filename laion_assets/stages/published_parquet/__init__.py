"""`published_parquet`: parquet metadata that others published, observed where it lies."""
