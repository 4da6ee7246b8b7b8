"""Content of the Dagster UI: metadata values, column schemas and links."""
