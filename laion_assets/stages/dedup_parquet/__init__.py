"""`dedup_parquet`: unique rows sorted by uid, one row group a shard."""
