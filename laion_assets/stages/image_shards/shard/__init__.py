"""One shard: its task, its files, their row-count invariant, and retries of failed rows."""
