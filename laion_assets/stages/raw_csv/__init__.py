"""`raw_csv`: the crawl CSVs, fetched and kept as they are at their source."""
