"""Tests of the search page, most of them in Chromium."""
