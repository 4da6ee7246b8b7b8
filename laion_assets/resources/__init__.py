"""Dagster resources: storage, Spark, the CLIP model, the crawl's site."""
