"""A task builds one partition: a small picklable value that runs in a worker process or in Spark."""

import platform
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from laion_assets.failures import explain

OutcomeT = TypeVar("OutcomeT")
OutcomeT_co = TypeVar("OutcomeT_co", covariant=True)
Send = Callable[[Any], None]
"""Sends a picklable message, such as progress, from a running task to the driver."""
WORKER_DIED = "WorkerDied"
"""The `kind` of a failure without an exception: the process ended."""


class Task(Protocol[OutcomeT_co]):
    """A picklable task for one partition, from a module that a worker can import, such as `ShardTask`."""

    @property
    def number(self) -> int:
        """The partition's number. No two tasks of a run have the same."""

    @property
    def key(self) -> str:
        """The partition's key."""

    def run(self, send: Send) -> OutcomeT_co:
        """Build the partition. The outcome is picklable. `send` may be called from any thread."""


@dataclass(frozen=True)
class TaskFailure:
    """A partition that was not committed, and the error.

    `kind` is the error's class name, or WORKER_DIED. `host` is the name of the machine, empty if it is not known.
    """

    number: int
    key: str
    kind: str
    message: str
    traceback: str = ""
    host: str = ""

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


def run_task(
    task: Task[OutcomeT], send: Send, prepare: Callable[[Task[OutcomeT]], Task[OutcomeT]] | None = None
) -> OutcomeT | TaskFailure:
    """Run the task in this process, after `prepare` has completed it. An exception becomes a TaskFailure."""
    try:
        return (task if prepare is None else prepare(task)).run(send)
    except Exception as error:
        kind, host = type(error).__name__, platform.node()
        return TaskFailure(task.number, task.key, kind, explain(error), traceback.format_exc(), host)


def ignore(message: object) -> None:
    """Do nothing with an outcome, a failure or a message."""
