"""Fetching, checking, resizing and sharding images, with img2dataset as a library."""
