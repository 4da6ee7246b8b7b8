"""Tasks of the Spark job: sorted runs, their merge, and the writer of a partition."""
