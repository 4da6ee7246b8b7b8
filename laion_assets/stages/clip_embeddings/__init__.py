"""`clip_embeddings`: CLIP embeddings of every image and caption, in the layout of clip-retrieval."""
