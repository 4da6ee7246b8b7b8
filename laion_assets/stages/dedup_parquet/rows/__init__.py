"""Rows: normalised columns, filters, and which of several rows with one uid is kept."""
