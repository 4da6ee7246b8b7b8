"""Run tasks in Spark, one Spark task per partition, on any master.

Each executor needs this package, and access to the dataset's root at the same address. The result of a task reaches the
driver through an accumulator when the task ends, not at the end of the job.
"""

import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from laion_assets.workers.executor_problems import describe_executor_problem, has_running_task
from laion_assets.workers.task import WORKER_DIED, OutcomeT, Task, TaskFailure, ignore, run_task

_POLL_S = 0.1
_STOP_S = 10.0
IDLE_S = 60.0
"""Seconds between looks whether a task is running; if none is, the log says that Spark waits for an executor."""
_CULPRIT = re.compile(r"Task (\d+) in stage [\d.]+ failed (\d+) times")
Prepare = Callable[[Task[OutcomeT]], Task[OutcomeT]]


def run_tasks_in_spark(
    tasks: Sequence[Task[OutcomeT]],
    session: Any,
    on_done: Callable[[OutcomeT], None] = ignore,
    on_failed: Callable[[TaskFailure], None] = ignore,
    *,
    name: str,
    on_message: Callable[[int, Any], None] = lambda number, message: None,
    prepare: Prepare[OutcomeT] | None = None,
    memory_advice: str = "",
    log: Callable[[str], None] = ignore,
) -> list[TaskFailure]:
    """Run every task and return the failures, sorted by number, as `run_tasks` does in processes.

    The callbacks are called in this process and thread; `on_message` when its task has ended. `prepare` is a picklable
    function that completes a task on its executor. If an executor dies, Spark runs its tasks on others
    (`spark.task.maxFailures` tries). A task whose executor dies at every try is a failure, and the others continue. Any
    exception raised in a callback, also KeyboardInterrupt, cancels the job and is re-raised. Raises SparkError if the
    executors' Python cannot run tasks at all. `name` is the name of the job, in Spark's words its description.
    """
    failures: list[TaskFailure] = []
    waiting = list(tasks)
    while waiting:
        done: set[int] = set()

        def take(ended: "_Ended", done: set[int] = done) -> None:
            done.add(ended.number)
            for message in ended.messages:
                on_message(ended.number, message)
            if isinstance(ended.result, TaskFailure):
                failures.append(ended.result)
                on_failed(ended.result)
            else:
                on_done(ended.result)

        error = _run_job(session.sparkContext, waiting, name, take, prepare, log)
        left = [task for task in waiting if task.number not in done]
        if error is not None:
            problem = describe_executor_problem(error)
            if problem is not None:
                raise problem from error
            culprit = _find_culprit(waiting, error)
            if culprit is None or culprit.number in done:
                raise error
            failures.append(_worker_died(culprit, memory_advice))
            on_failed(failures[-1])
            left.remove(culprit)
        waiting = left
    return sorted(failures, key=lambda failure: failure.number)


def _run_job(
    context: Any,
    tasks: list[Task[OutcomeT]],
    name: str,
    take: Callable[["_Ended"], None],
    prepare: Prepare[OutcomeT] | None,
    log: Callable[[str], None],
) -> BaseException | None:
    """Run one Spark job over the tasks. Call `take` for each result as it arrives. Return the job's error, or None."""
    results = context.accumulator((), _Results())
    group = f"{name}-{uuid.uuid4()}"
    errors: list[BaseException] = []

    def run() -> None:
        try:
            context.setJobGroup(group, name, interruptOnCancel=True)
            context.parallelize(tasks, len(tasks)).foreachPartition(_Runner(results, prepare))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name=f"{name}-job", daemon=True)
    thread.start()
    taken = 0
    looks_at = time.monotonic() + IDLE_S
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
            if time.monotonic() > looks_at:
                looks_at += IDLE_S
                if thread.is_alive() and not has_running_task(context, group):
                    log(
                        f"no task is running: Spark waits for an executor of {context.master} with the cores, memory "
                        "and GPUs of spark.conf (spark.executor.*, spark.task.*)"
                    )
    except BaseException:
        context.cancelJobGroup(group)
        thread.join(_STOP_S)
        raise


@dataclass(frozen=True)
class _Ended:
    """A task that has ended: its number, its outcome or a TaskFailure, and what it sent."""

    number: int
    result: Any
    messages: tuple[Any, ...]


class _Runner:
    """A function that runs the tasks of one Spark partition on an executor."""

    def __init__(self, results: Any, prepare: Callable[[Any], Any] | None) -> None:
        self._results = results
        self._prepare = prepare

    def __call__(self, tasks: Iterable[Task[Any]]) -> None:
        for task in tasks:
            messages: list[Any] = []
            result = run_task(task, messages.append, self._prepare)
            self._results.add((_Ended(task.number, result, tuple(messages)),))


class _Results:
    """Accumulates results (pyspark's AccumulatorParam). Those of each successful task are added once."""

    def zero(self, value: Any) -> Any:
        return ()

    def addInPlace(self, value1: Any, value2: Any) -> Any:  # noqa: N802  (pyspark's name)
        return value1 + value2


def _find_culprit(tasks: list[Task[OutcomeT]], error: BaseException) -> Task[OutcomeT] | None:
    """Return the task that failed the job because its executor or Python worker died at every try."""
    found = _CULPRIT.search(str(error))
    return tasks[int(found.group(1))] if found is not None and int(found.group(1)) < len(tasks) else None


def _worker_died(task: Task[Any], memory_advice: str) -> TaskFailure:
    return TaskFailure(
        task.number,
        task.key,
        WORKER_DIED,
        "its executor or Python worker ended at each of Spark's tries (spark.task.maxFailures), and nothing was "
        "committed. Run the partition again. If this happens again, check the executors' logs"
        f"{', raise their memory' if not memory_advice else f', raise their memory, or {memory_advice}'}.",
    )
