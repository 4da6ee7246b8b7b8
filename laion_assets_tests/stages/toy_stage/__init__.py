"""A stage as a user would add it: it counts captions by language, in one json file per parquet file."""
