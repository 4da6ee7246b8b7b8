"""Queries: requests of the search API, and the encoding of their texts and images."""
