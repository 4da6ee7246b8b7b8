"""Why Spark's executors run no task: their Python lacks a package or does not start, or there is no executor."""

import re
from typing import Any

from laion_assets.errors import SparkError

_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")
_NO_PROGRAM = re.compile(r'Cannot run program "([^"]+)"')
_OTHER_PYTHON = re.compile(r"Python in worker has different version: ([\d.]+) than that in driver: ([\d.]+)")


def describe_executor_problem(error: BaseException) -> SparkError | None:
    """Return a SparkError for a failed job whose tasks could not start in the executors' Python, else None.

    Such a job fails at its first task, after `spark.task.maxFailures` tries, and would fail at every other one.
    """
    text = str(error)
    if found := _NO_MODULE.search(text):
        return SparkError(
            f"The Python of Spark's executors cannot import {found[1]}. Install laion_assets with the packages of its "
            "requirements.lock on every executor, and set spark.pyspark.python in spark.conf to its interpreter."
        )
    if found := _NO_PROGRAM.search(text):
        return SparkError(
            f"Spark's executors cannot start the Python {found[1]}. Set spark.pyspark.python in spark.conf to an "
            "interpreter with this package that has the same path on every executor."
        )
    if found := _OTHER_PYTHON.search(text):
        return SparkError(
            f"Spark's executors and the driver have different versions of Python, {found[1]} and "
            f"{found[2].rstrip('.')}. Set spark.pyspark.python in spark.conf to an interpreter of the driver's version."
        )
    return None


def has_running_task(context: Any, group: str) -> bool:
    """Whether a task of the job group is running on an executor."""
    tracker = context.statusTracker()
    jobs = [info for job in tracker.getJobIdsForGroup(group) if (info := tracker.getJobInfo(job)) is not None]
    stages = [info for job in jobs for stage in job.stageIds if (info := tracker.getStageInfo(stage)) is not None]
    return any(stage.numActiveTasks for stage in stages)
