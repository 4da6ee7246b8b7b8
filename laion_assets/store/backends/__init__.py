"""The two places of a store: a folder of a local disk, and an object store."""
