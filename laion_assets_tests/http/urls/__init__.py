"""Tests of laion_assets.http.urls."""
