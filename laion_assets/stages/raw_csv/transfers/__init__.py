"""Downloads of many files: parallel, conditional, resumable, within a disk budget."""
