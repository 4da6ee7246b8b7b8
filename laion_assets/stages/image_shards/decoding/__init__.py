"""Decoding, resizing and encoding images in a sandboxed process."""
