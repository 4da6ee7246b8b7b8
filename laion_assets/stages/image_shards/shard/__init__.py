"""One shard: its task, its files, their invariant, and retries of failed rows."""
