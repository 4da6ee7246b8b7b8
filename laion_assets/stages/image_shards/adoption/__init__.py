"""Adopt shards that img2dataset made."""
