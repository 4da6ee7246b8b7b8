"""Telling local failures (DNS, network, CPU) from those of the web."""
