"""Configuration of the Spark session that runs the dedup job."""

SESSION_CONF: dict[str, str] = {
    # Exactly one task for each parquet file: adaptive execution would merge or split the exchange's partitions.
    "spark.sql.adaptive.enabled": "false",
    # Limits of one Arrow batch in a Python worker, in rows and in bytes (a caption has up to 100,000 characters).
    "spark.sql.execution.arrow.maxRecordsPerBatch": "10000",
    "spark.sql.execution.arrow.maxBytesPerBatch": str(16 << 20),
    "spark.sql.session.timeZone": "UTC",
    # Keep the full Python traceback of a failed worker.
    "spark.sql.execution.pyspark.udf.simplifiedTraceback.enabled": "false",
}
"""Set on a new session of the job (`SparkSession.newSession`). The caller's session keeps its configuration."""
