"""Exports: rows chosen by SQL, search or uid, as lists, uid arrays or webdataset shards."""
