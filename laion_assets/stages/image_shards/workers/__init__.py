"""Shard tasks in worker processes or in Spark."""
