"""The Spark configuration that the metadata stage needs or that keeps a run's log readable."""

SPARK_CONF: dict[str, str] = {
    # Quiet: the run's log carries our own progress.
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
    # What crosses the exchange is compressed already.
    "spark.shuffle.compress": "false",
    # The JVM moves few large values. G1 starts a cycle for every few of them; a second compiler never pays for itself.
    "spark.driver.extraJavaOptions": "-XX:+UseParallelGC -XX:TieredStopAtLevel=1",
    # Spark's default sum is computed byte by byte, this one by the processor.
    "spark.shuffle.checksum.algorithm": "CRC32C",
    # The writer is asked once a partition: a second attempt only helps where an executor was lost.
    "spark.speculation": "false",
    "spark.task.maxFailures": "4",
}
"""What `SparkResource` merges under the dataset's own `metadata.spark_conf`."""

SESSION_CONF: dict[str, str] = {
    # One task a parquet file, exactly: nothing may merge or split the exchange's partitions.
    "spark.sql.adaptive.enabled": "false",
    # Bounds of what Python holds at once, in rows and in bytes (captions reach 100,000 characters).
    "spark.sql.execution.arrow.maxRecordsPerBatch": "10000",
    "spark.sql.execution.arrow.maxBytesPerBatch": str(16 << 20),
    "spark.sql.session.timeZone": "UTC",
    # A broken worker shows its Python traceback in full.
    "spark.sql.execution.pyspark.udf.simplifiedTraceback.enabled": "false",
}
"""Set on a session of the job's own (`SparkSession.newSession`), so that the caller's stays as it is."""
