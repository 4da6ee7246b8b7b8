"""One URL to bytes: the guard, its HTTP client, consent, and the bounds of time, size and politeness."""
