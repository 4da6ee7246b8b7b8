"""A stage as somebody would add it: it counts captions by language, a json file for each parquet file."""
