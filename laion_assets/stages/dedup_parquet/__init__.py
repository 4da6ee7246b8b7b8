"""`dedup_parquet`: unique rows, sorted by uid, with one row group per shard."""
