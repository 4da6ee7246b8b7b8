"""Tests of laion_assets.http.consent."""
