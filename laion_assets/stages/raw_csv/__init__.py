"""`raw_csv`: the crawl's CSV files, fetched from their source and stored unchanged."""
