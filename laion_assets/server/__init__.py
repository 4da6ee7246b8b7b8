"""The search service: an ASGI application over the searches of one or more datasets, and the page."""
