"""A dataset as a value: its declared counts, its settings, and the identity of its rows."""
