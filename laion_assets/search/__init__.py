"""Answering queries from a published index."""
