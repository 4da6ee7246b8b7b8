"""`image_shards`: images downloaded, resized and packed into webdataset shards."""
