"""Directory listings over HTTP: which files a tree of pages has, and the paths they get."""
