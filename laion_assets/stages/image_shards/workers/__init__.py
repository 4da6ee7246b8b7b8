"""Run shard tasks in worker processes or in Spark."""
