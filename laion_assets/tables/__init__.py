"""Tables from strangers, read within bounds: columns by name, parquet decoded in a process of its own."""
