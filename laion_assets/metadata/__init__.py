"""The metadata half: reading crawl CSVs, aligning their columns, quarantining and deduplicating their rows."""
