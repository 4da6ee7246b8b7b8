"""Encoding shards with a CLIP model into clip-retrieval's embedding files."""
