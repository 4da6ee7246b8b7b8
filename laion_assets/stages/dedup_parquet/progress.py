"""Progress of the Spark job in the run's log: reading tasks, then committed parquet files."""

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from laion_assets.progress import Progress

_POLL_S = 1.0


@contextlib.contextmanager
def report_progress(session: Any, groups: int, files: int, size: int, log: Callable[[str], None]) -> Iterator[None]:
    """Log the progress of the job that the body runs, from Spark's status tracker.

    `groups` tasks read `size` bytes of input, `files` tasks commit. The job is identified by the job group of this
    thread.
    """
    context = session.sparkContext
    job_group = f"dedup-{uuid.uuid4()}"
    context.setJobGroup(job_group, "dedup_parquet", interruptOnCancel=True)
    reading = Progress(log, "reading tasks", groups, "MB")
    writing: list[Progress] = []
    ended = threading.Event()

    def poll() -> None:
        tracker = context.statusTracker()
        for job in tracker.getJobIdsForGroup(job_group):
            info = tracker.getJobInfo(job)
            stages = sorted(info.stageIds) if info else []
            counts = [stage.numCompletedTasks for number in stages if (stage := tracker.getStageInfo(number))]
            if len(counts) >= 2:
                advance(reading, counts[-2])
                write(counts[-1], counts[-2])

    def advance(progress: Progress, finished: int) -> None:
        new = min(finished, progress.total) - progress.done
        if new > 0:
            progress.add(new, fine=new * size // 1_000_000 // max(groups, 1))

    def write(finished: int, groups_read: int) -> None:
        if not writing and groups_read >= groups:
            writing.append(Progress(log, "parquet files", files))
        if writing:
            advance(writing[0], finished)

    def watch() -> None:
        while not ended.wait(_POLL_S):
            with contextlib.suppress(Exception):
                poll()

    thread = threading.Thread(target=watch, name="dedup-progress", daemon=True)
    thread.start()
    try:
        yield
        advance(reading, groups)
        write(files, groups)
    except Exception:
        ended.set()
        _end(thread, context)
        raise
    finally:  # after an interrupt, this thread's connection to the JVM still waits for the job and takes no calls
        ended.set()
    _end(thread, context)


def _end(thread: threading.Thread, context: Any) -> None:
    thread.join(timeout=5)
    context.setLocalProperty("spark.jobGroup.id", None)
