"""The stages of the pipeline, a folder each, and what is derived from their descriptions."""
