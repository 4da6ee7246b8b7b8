"""Readers of CSV and parquet files. Every record becomes a row or a counted reason."""
