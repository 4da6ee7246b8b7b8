"""Tests of laion_assets.http.sources."""
