"""How a partition becomes complete: staging, claim, publication, manifest."""
