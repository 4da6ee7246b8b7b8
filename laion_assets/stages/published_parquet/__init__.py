"""`published_parquet`: parquet files of metadata that others published, observed and read in place."""
