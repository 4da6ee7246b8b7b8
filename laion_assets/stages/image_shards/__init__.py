"""`image_shards`: download, resize and pack images into webdataset shards."""
