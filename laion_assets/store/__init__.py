"""The store of a dataset, on a local disk or an object store: manifests, leases and atomic commits."""
