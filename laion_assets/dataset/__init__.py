"""Datasets: declared counts, settings, and the identity of rows."""
