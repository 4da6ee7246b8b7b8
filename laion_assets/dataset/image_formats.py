"""The formats of stored images."""

ENCODE_FORMATS = ("jpg", "png", "webp")
"""img2dataset's names of the formats, which are also the suffixes of the images in a tar."""
