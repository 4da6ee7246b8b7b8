"""`knn_indices`: faiss indices over the image and text embeddings."""
