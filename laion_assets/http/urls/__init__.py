"""Which URLs may be asked, and at which addresses."""
