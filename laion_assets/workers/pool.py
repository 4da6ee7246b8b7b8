"""A pool of worker processes that run many tasks each.

img2dataset's own pool starts new processes every five shards (1.2 s of imports each) and hides failures. Here workers
are reused. A failed task is reported, and the others continue. A worker that dies (for example by the kernel's
out-of-memory killer) fails only its current task and is replaced. Workers end with their parent, even if it is killed.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, cast

from laion_assets.processes.parent_death import import_path
from laion_assets.workers.task import WORKER_DIED, OutcomeT, Task, TaskFailure, ignore, run_task

STOP_S = 3.0
"""Seconds that a terminated worker may take to end before it is killed."""


@dataclass
class _Worker:
    place: int
    process: subprocess.Popen[bytes]
    connection: Connection
    task: Task[Any] | None = None


@dataclass(frozen=True)
class _Message:
    """What a running task sends to the driver before its outcome."""

    content: Any


def run_tasks(
    tasks: Iterable[Task[OutcomeT]],
    processes: int,
    on_done: Callable[[OutcomeT], None] = ignore,
    on_failed: Callable[[TaskFailure], None] = ignore,
    *,
    on_message: Callable[[int, Any], None] = lambda number, message: None,
    assign: Callable[[Task[OutcomeT], int], Task[OutcomeT]] = lambda task, place: task,
    memory_advice: str = "lower the number of processes",
) -> list[TaskFailure]:
    """Run every task in a pool of `processes` workers (0: one per core). Return the failures, sorted by number.

    `on_done` is called in this process and thread for each task that ends well, `on_failed` for each that fails, and
    `on_message` with the task's number for what a running task sends. `assign` completes a task for the place of its
    worker, 0 to `processes` - 1, such as a device; a worker that replaces a dead one has its place. Tasks are taken
    from the iterable when a worker is free. Any exception raised here or in a callback, also KeyboardInterrupt and
    Dagster's interrupt, ends the workers within STOP_S and is re-raised. The next run's recovery removes their staging
    files.
    """
    waiting = iter(tasks)
    failures: list[TaskFailure] = []
    workers: list[_Worker] = []
    places = range(processes or available_cores())
    try:
        task = next(waiting, None)
        while task is not None or any(worker.task for worker in workers):
            while task is not None:
                free = next((worker for worker in workers if worker.task is None), None)
                if free is None and len(workers) < len(places):
                    taken = {worker.place for worker in workers}
                    free = _start(next(place for place in places if place not in taken))
                    workers.append(free)
                if free is None:
                    break
                if _send(free, assign(task, free.place)):
                    task = next(waiting, None)
                else:
                    workers.remove(free)
            for worker in _wait_for_results(workers):
                number = cast(Task[Any], worker.task).number
                result = _receive(worker, memory_advice)
                if isinstance(result, _Message):
                    on_message(number, result.content)
                    continue
                if not isinstance(result, TaskFailure):
                    on_done(result)
                    continue
                failures.append(result)
                if result.kind == WORKER_DIED:
                    workers.remove(worker)
                on_failed(result)
        return sorted(failures, key=lambda failure: failure.number)
    finally:
        _stop(workers)


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start(place: int) -> _Worker:
    """Start a worker. It is not a fork, which would inherit locks of threads and the connections of other workers."""
    ours, theirs = Pipe()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", f"{__package__}.child", str(theirs.fileno()), str(os.getpid())],
            pass_fds=(theirs.fileno(),),
            env={**os.environ, "PYTHONPATH": import_path()},
            stdin=subprocess.DEVNULL,
        )
    return _Worker(place, process, ours)


def _send(worker: _Worker, task: Task[Any]) -> bool:
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


def _receive(worker: _Worker, memory_advice: str) -> Any:
    """Return a message, an outcome or a failure. After the latter two the worker is free."""
    task = cast(Task[Any], worker.task)
    try:
        received = worker.connection.recv()
        if not isinstance(received, _Message):
            worker.task = None
        return received
    except (EOFError, OSError):
        worker.task = None
        worker.connection.close()
        code = _wait_or_kill(worker.process, STOP_S)
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"
        return TaskFailure(
            task.number,
            task.key,
            WORKER_DIED,
            f"its worker process ended {how}, and nothing was committed. Run the partition again. If this happens "
            f"again, check for the kernel's out-of-memory killer (dmesg), or {memory_advice}.",
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
    """Receive tasks and send messages, outcomes and failures, until None or the connection's end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent ends this process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _discard_native_output()
    sending = threading.Lock()

    def send(message: object) -> None:
        with sending:
            connection.send(message)

    while True:
        try:
            task = connection.recv()
        except (EOFError, ConnectionError):
            return
        if task is None:
            return
        send(run_task(task, lambda content: send(_Message(content))))


def _discard_native_output() -> None:
    """Discard what native libraries print to file descriptor 2 for each unusual image; Python's stderr stays."""
    own = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    sys.stderr = os.fdopen(own, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
