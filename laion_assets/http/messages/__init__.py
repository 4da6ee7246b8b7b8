"""The messages of HTTP/1.1, the same for every client: requests, response heads, framing, encodings, dates."""
