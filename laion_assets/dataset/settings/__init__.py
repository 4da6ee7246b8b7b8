"""Settings: their declaration, their checks, and the lookup of their values."""
