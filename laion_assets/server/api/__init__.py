"""The search API of this project: what each path reads and answers."""
