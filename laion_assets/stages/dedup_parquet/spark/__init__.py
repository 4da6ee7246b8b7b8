"""The Spark job's tasks: sorted runs, their merge, and the writer of one partition."""
