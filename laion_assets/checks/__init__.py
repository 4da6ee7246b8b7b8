"""Asset checks that recount from the files themselves."""
