"""Decode, resize and encode images in a sandboxed process."""
