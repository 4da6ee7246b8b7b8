"""Untrusted tables, read within limits: columns by name, parquet decoded in a separate process."""
