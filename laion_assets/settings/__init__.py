"""Settings: declared as dataclass fields, read from one file and the environment, each with a known origin."""
