"""Dagster's concerns, shared by all stages: partitions, runs, reporting, checks."""
