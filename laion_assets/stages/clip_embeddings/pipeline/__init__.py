"""The pipeline from tar files to vectors: decode ahead, encode in batches, write groups."""
