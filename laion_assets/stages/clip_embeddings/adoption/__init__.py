"""Adopt embeddings that `clip-retrieval inference` made."""
