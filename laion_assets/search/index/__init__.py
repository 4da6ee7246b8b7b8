"""The committed indices, open for searches: versions, metadata and vectors by id."""
