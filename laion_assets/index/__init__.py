"""Building and measuring the image and text indices with autofaiss."""
