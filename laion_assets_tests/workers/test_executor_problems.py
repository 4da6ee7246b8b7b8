"""What Spark's executors lack is named in one sentence."""

import pytest

from laion_assets.errors import SparkError
from laion_assets.workers.executor_problems import describe_executor_problem

TASK = "Job aborted due to stage failure: Task 0 in stage 3.0 failed 4 times, most recent failure: Lost task 0.3: "


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "org.apache.spark.api.python.PythonException: Traceback (most recent call last):\n"
            "ModuleNotFoundError: No module named 'laion_assets'\n",
            "cannot import laion_assets. Install laion_assets",
        ),
        (
            'java.io.IOException: Cannot run program "/opt/env/bin/python": error=2, No such file or directory',
            "cannot start the Python /opt/env/bin/python. Set spark.pyspark.python",
        ),
        (
            "[PYTHON_VERSION_MISMATCH] Python in worker has different version: 3.10 than that in driver: 3.11, PySpark "
            "cannot run with different minor versions.",
            "different versions of Python, 3.10 and 3.11. Set spark.pyspark.python",
        ),
    ],
)
def test_an_executor_whose_python_runs_no_task_is_described(text: str, expected: str) -> None:
    found = describe_executor_problem(RuntimeError(TASK + text))
    assert isinstance(found, SparkError)
    assert expected in str(found)
    assert "\n" not in str(found)


def test_a_lost_executor_is_not_one() -> None:
    assert describe_executor_problem(RuntimeError(f"{TASK}ExecutorLostFailure (executor 3 exited)")) is None
