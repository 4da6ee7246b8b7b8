"""Operating-system features of our processes: parent death, sandbox, user name and cache folder."""
