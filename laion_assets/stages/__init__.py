"""The stages of the pipeline, one folder each, and the code that is derived from their descriptions."""
