"""Fetching, checking, resizing and sharding images, in img2dataset's formats and by its options."""
