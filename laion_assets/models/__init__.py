"""CLIP models: loading, preprocessing, tokenizing, encoding."""
