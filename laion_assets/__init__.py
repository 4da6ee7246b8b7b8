"""laion_assets: a LAION-style image-text dataset, from crawl CSVs to a searchable CLIP index, as one asset graph."""

__version__ = "0.1.0"
