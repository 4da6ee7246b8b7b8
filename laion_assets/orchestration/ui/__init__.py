"""What the Dagster UI shows: metadata values, column schemas and links."""
