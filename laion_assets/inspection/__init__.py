"""Inspection of the files of a new dataset: format, dialect, columns, rows, and the entry in the settings file."""
