"""The API and the front end of clip-retrieval."""
