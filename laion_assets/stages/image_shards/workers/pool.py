"""A pool of worker processes that build many shards each.

img2dataset's own pool starts new processes every five shards (1.2 s of imports each) and hides failures. Here workers
are reused. A failed shard is reported, and the others continue. A worker that dies (for example by the kernel's
out-of-memory killer) fails only its current shard and is replaced. Workers end with their parent, even if it is killed.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Protocol, cast

from laion_assets.dataset.layout import ShardNumber
from laion_assets.failures import explain
from laion_assets.processes.parent_death import import_path
from laion_assets.stages.image_shards.workers.outcome import ShardFailure, ShardOutcome

STOP_S = 3.0
"""Seconds that a terminated worker may take to end before it is killed."""
WORKER_DIED = "WorkerDied"
"""The `kind` of a failure without an exception: the process ended."""


class Task(Protocol):
    """A picklable task for one shard, from a module that a worker can import, such as `ShardTask`."""

    @property
    def shard(self) -> ShardNumber:
        """The shard's number."""

    @property
    def key(self) -> str:
        """The shard's partition key."""

    def run(self) -> ShardOutcome:
        """Build the shard."""


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    task: Task | None = None


def run_shards(
    tasks: Iterable[Task],
    processes: int,
    on_done: Callable[[ShardOutcome], None] = lambda outcome: None,
    on_failed: Callable[[ShardFailure], None] = lambda failure: None,
) -> list[ShardFailure]:
    """Run every task in a pool of `processes` workers (0: one per core). Return the failures, sorted by shard.

    `on_done` is called in this process and thread for each shard that is committed or skipped, and `on_failed` for each
    that fails. Tasks are taken from the iterable when a worker is free. Any exception raised here or in a callback,
    also KeyboardInterrupt and Dagster's interrupt, ends the workers within STOP_S and is re-raised. The next run's
    recovery removes their staging files.
    """
    waiting = iter(tasks)
    failures: list[ShardFailure] = []
    workers: list[_Worker] = []
    try:
        task = next(waiting, None)
        while task is not None or any(worker.task for worker in workers):
            while task is not None:
                free = next((worker for worker in workers if worker.task is None), None)
                if free is None and len(workers) < (processes or available_cores()):
                    free = _start()
                    workers.append(free)
                if free is None:
                    break
                if _send(free, task):
                    task = next(waiting, None)
                else:
                    workers.remove(free)
            for worker in _wait_for_results(workers):
                result = _receive(worker)
                if isinstance(result, ShardOutcome):
                    on_done(result)
                    continue
                failures.append(result)
                if result.kind == WORKER_DIED:
                    workers.remove(worker)
                on_failed(result)
        return sorted(failures, key=lambda failure: failure.shard)
    finally:
        _stop(workers)


def run_task(task: Task) -> ShardOutcome | ShardFailure:
    """Run the task in this process. An exception becomes a ShardFailure."""
    try:
        return task.run()
    except Exception as error:
        return ShardFailure(task.shard, task.key, type(error).__name__, explain(error), traceback.format_exc())


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start() -> _Worker:
    """Start a worker. It is not a fork, which would inherit locks of threads and the connections of other workers."""
    ours, theirs = Pipe()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", f"{__package__}.child", str(theirs.fileno()), str(os.getpid())],
            pass_fds=(theirs.fileno(),),
            env={**os.environ, "PYTHONPATH": import_path()},
            stdin=subprocess.DEVNULL,
        )
    return _Worker(process, ours)


def _send(worker: _Worker, task: Task) -> bool:
    try:
        worker.connection.send(task)
    except (BrokenPipeError, ConnectionError):
        worker.connection.close()
        return False
    worker.task = task
    return True


def _wait_for_results(workers: list[_Worker]) -> Iterator[_Worker]:
    """Wait for workers that have a result or have died, and yield them."""
    busy = {worker.connection: worker for worker in workers if worker.task is not None}
    for connection in wait(list(busy)):
        yield busy[cast(Connection, connection)]


def _receive(worker: _Worker) -> ShardOutcome | ShardFailure:
    task = cast(Task, worker.task)
    worker.task = None
    try:
        return cast("ShardOutcome | ShardFailure", worker.connection.recv())
    except (EOFError, OSError):
        worker.connection.close()
        code = _wait_or_kill(worker.process, STOP_S)
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"
        return ShardFailure(
            task.shard,
            task.key,
            WORKER_DIED,
            f"its worker process ended {how}, and nothing was committed. Run the shard again. If this happens again, "
            "check for the kernel's out-of-memory killer (dmesg), or lower images.threads.",
        )


def _stop(workers: list[_Worker]) -> None:
    for worker in workers:
        if worker.task is None:
            with contextlib.suppress(OSError):
                worker.connection.send(None)
        else:
            worker.process.terminate()
    ends = time.monotonic() + STOP_S
    for worker in workers:
        _wait_or_kill(worker.process, max(0.0, ends - time.monotonic()))
        worker.connection.close()


def _wait_or_kill(process: "subprocess.Popen[bytes]", within_s: float) -> int:
    """Wait for the process to end, kill it after `within_s`, and return its exit status."""
    try:
        return process.wait(within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def work(connection: Connection) -> None:
    """Receive tasks and send outcomes and failures, until None or the connection's end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent ends this process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _discard_native_output()
    while True:
        try:
            task = connection.recv()
        except (EOFError, ConnectionError):
            return
        if task is None:
            return
        connection.send(run_task(task))


def _discard_native_output() -> None:
    """Discard what native libraries print to file descriptor 2 for each unusual image; Python's stderr stays."""
    own = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    sys.stderr = os.fdopen(own, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
