"""Run the tasks of a stage, one per partition, in worker processes or in Spark."""
