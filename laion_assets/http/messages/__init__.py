"""HTTP/1.1 messages, shared by all clients: requests, response headers, framing, content codings, dates."""
