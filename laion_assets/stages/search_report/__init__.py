"""`search_report`: queries, recall and latency of the indices."""
