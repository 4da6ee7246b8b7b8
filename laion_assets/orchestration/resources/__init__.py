"""Resources of a run: Spark, the CLIP model, the embedded web site."""
