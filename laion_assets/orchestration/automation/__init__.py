"""Runs that Dagster starts: jobs, the schedule, the sensor of the source, and automation conditions."""
