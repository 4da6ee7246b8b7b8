"""Guarded HTTP: address checks, the client, consent checks, and limits of time, size and requests per host."""
