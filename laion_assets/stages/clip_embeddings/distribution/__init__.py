"""Several embedding files at the same time: one process per device, or one Spark task per file."""
