"""Settings: how a field is declared and checked, and where its value comes from."""
