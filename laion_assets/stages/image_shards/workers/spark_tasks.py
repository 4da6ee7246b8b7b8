"""Run shard tasks in Spark, one Spark task per shard, on any master.

Each executor needs this package, access to the dataset's root at the same address, and network access to the images.
The result of a task reaches the driver through an accumulator when the task ends, not at the end of the job.
"""

import re
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from laion_assets.stages.image_shards.workers.outcome import ShardFailure, ShardOutcome
from laion_assets.stages.image_shards.workers.pool import WORKER_DIED, Task, run_task

_POLL_S = 0.1
_STOP_S = 10.0
_CULPRIT = re.compile(r"Task (\d+) in stage [\d.]+ failed (\d+) times")


def run_shards_in_spark(
    tasks: Sequence[Task],
    session: Any,
    on_done: Callable[[ShardOutcome], None] = lambda outcome: None,
    on_failed: Callable[[ShardFailure], None] = lambda failure: None,
) -> list[ShardFailure]:
    """Run every task and return the failures, sorted by shard, as `run_shards` does in processes.

    `on_done` and `on_failed` are called in this process and thread. If an executor dies, Spark runs its tasks on others
    (`spark.task.maxFailures` tries). A task whose executor dies at every try is a failure, and the others continue. Any
    exception raised in a callback, also KeyboardInterrupt, cancels the job and is re-raised.
    """
    failures: list[ShardFailure] = []
    waiting = list(tasks)
    while waiting:
        done: set[int] = set()

        def take(result: ShardOutcome | ShardFailure, done: set[int] = done) -> None:
            done.add(result.shard)
            if isinstance(result, ShardOutcome):
                on_done(result)
            else:
                failures.append(result)
                on_failed(result)

        error = _run_job(session.sparkContext, waiting, take)
        left = [task for task in waiting if task.shard not in done]
        if error is not None:
            culprit = _find_culprit(waiting, error)
            if culprit is None or culprit.shard in done:
                raise error
            failures.append(_worker_died(culprit))
            on_failed(failures[-1])
            left.remove(culprit)
        waiting = left
    return sorted(failures, key=lambda failure: failure.shard)


def _run_job(
    context: Any, tasks: list[Task], take: Callable[[ShardOutcome | ShardFailure], None]
) -> BaseException | None:
    """Run one Spark job over the tasks. Call `take` for each result as it arrives. Return the job's error, or None."""
    results = context.accumulator((), _Results())
    group = f"image-shards-{uuid.uuid4()}"
    errors: list[BaseException] = []

    def run() -> None:
        try:
            context.setJobGroup(group, "image_shards", interruptOnCancel=True)
            context.parallelize(tasks, len(tasks)).foreachPartition(_Runner(results))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="image-shards-job", daemon=True)
    thread.start()
    taken = 0
    try:
        while True:
            ended = not thread.is_alive()
            found = results.value
            for result in found[taken:]:
                take(result)
            taken = len(found)
            if ended:
                return errors[0] if errors else None
            thread.join(_POLL_S)
    except BaseException:
        context.cancelJobGroup(group)
        thread.join(_STOP_S)
        raise


class _Runner:
    """A function that runs the tasks of one Spark partition on an executor."""

    def __init__(self, results: Any) -> None:
        self._results = results

    def __call__(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            self._results.add((run_task(task),))


class _Results:
    """Accumulates results (pyspark's AccumulatorParam). Those of each successful task are added once."""

    def zero(self, value: Any) -> Any:
        return ()

    def addInPlace(self, value1: Any, value2: Any) -> Any:  # noqa: N802  (pyspark's name)
        return value1 + value2


def _find_culprit(tasks: list[Task], error: BaseException) -> Task | None:
    """Return the task that failed the job because its executor or Python worker died at every try."""
    found = _CULPRIT.search(str(error))
    return tasks[int(found.group(1))] if found is not None and int(found.group(1)) < len(tasks) else None


def _worker_died(task: Task) -> ShardFailure:
    return ShardFailure(
        task.shard,
        task.key,
        WORKER_DIED,
        "its executor or Python worker ended at each of Spark's tries (spark.task.maxFailures), and nothing was "
        "committed. Run the shard again. If this happens again, check the executors' logs, raise their memory, or "
        "lower images.threads.",
    )
