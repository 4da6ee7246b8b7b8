"""Search in the committed indices."""
