"""Readers of CSV and parquet files: every record is a row or a counted reason."""
