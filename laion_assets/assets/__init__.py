"""The assets, a module a stage, and one for the statistics."""
