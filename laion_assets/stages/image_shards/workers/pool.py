"""A pool of worker processes that make many shards each, and that nothing outlives.

img2dataset's own pool starts new processes every five shards (1.2 s of imports each) and hides failures. Here workers
are reused; a shard that fails is reported and the others go on; a worker that dies (a decoder's crash, the kernel's
out-of-memory killer) costs the shard it was making and is replaced; workers end with their parent, however it ends.
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
"""How long a terminated worker may take before it is killed."""
WORKER_DIED = "WorkerDied"
"""The kind of a failure that has no exception: the process is gone."""


class Task(Protocol):
    """A picklable piece of work on one shard, of a module that a worker can import; `ShardTask` is one."""

    @property
    def shard(self) -> ShardNumber:
        """The shard's number."""

    @property
    def key(self) -> str:
        """The shard's partition key."""

    def run(self) -> ShardOutcome:
        """Make the shard."""


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
    """Run every task in a pool of `processes` workers (0: one a core), and give the failures, in the order of shards.

    `on_done` is called here, in this process and thread, for each shard as it is published or skipped, and `on_failed`
    for each that fails. Tasks are taken from the iterable as workers get free. Whatever is raised here or in these
    (KeyboardInterrupt and Dagster's interrupt too) ends the workers within STOP_S and is passed on; their staging is
    removed by the next run's recovery.
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
                if _hand_over(free, task):
                    task = next(waiting, None)
                else:
                    workers.remove(free)
            for worker in _ready(workers):
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


def result_of(task: Task) -> ShardOutcome | ShardFailure:
    """Run the task here; what it raises becomes the failure of its shard."""
    try:
        return task.run()
    except Exception as error:
        return ShardFailure(task.shard, task.key, type(error).__name__, explain(error), traceback.format_exc())


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start() -> _Worker:
    """A new process, not a fork: that would inherit the locks of this process's threads and the other workers' ends."""
    ours, theirs = Pipe()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", f"{__package__}.child", str(theirs.fileno()), str(os.getpid())],
            pass_fds=(theirs.fileno(),),
            env={**os.environ, "PYTHONPATH": import_path()},
            stdin=subprocess.DEVNULL,
        )
    return _Worker(process, ours)


def _hand_over(worker: _Worker, task: Task) -> bool:
    try:
        worker.connection.send(task)
    except (BrokenPipeError, ConnectionError):
        worker.connection.close()
        return False
    worker.task = task
    return True


def _ready(workers: list[_Worker]) -> Iterator[_Worker]:
    """Workers with a result, or without a life; waits for the first."""
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
        code = _ended(worker.process, STOP_S)
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"
        return ShardFailure(
            task.shard,
            task.key,
            WORKER_DIED,
            f"its worker process ended {how}; nothing of it was published. Run the shard again; if it ends so again, "
            "look for the kernel's out-of-memory killer (dmesg) or lower images.threads.",
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
        _ended(worker.process, max(0.0, ends - time.monotonic()))
        worker.connection.close()


def _ended(process: "subprocess.Popen[bytes]", within_s: float) -> int:
    """Its exit status, as soon as it ends, and at the latest when it is killed then."""
    try:
        return process.wait(within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def work(connection: Connection) -> None:
    """A worker's life: tasks in, outcomes and failures out, until None or the connection's end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _silence_native_decoders()
    while True:
        try:
            task = connection.recv()
        except (EOFError, ConnectionError):
            return
        if task is None:
            return
        connection.send(result_of(task))


def _silence_native_decoders() -> None:
    """libjpeg and libpng print a line for each odd picture to file descriptor 2; Python's own stderr stays."""
    own = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    sys.stderr = os.fdopen(own, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
