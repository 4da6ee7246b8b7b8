"""The rows of an export: chosen by a condition, a search or a list of uids, and read in their order."""
