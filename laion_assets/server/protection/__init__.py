"""Protection of the service: access, limits of requests and connections."""
