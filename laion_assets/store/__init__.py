"""The store of a dataset, on a disk or an object store: manifests, leases and atomic commits."""
