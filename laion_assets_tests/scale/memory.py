"""Peak memory of this process's children, sampled while something runs."""

import contextlib
import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil

_EVERY_S = 0.2


@dataclass
class Peaks:
    """Peak resident memory in MiB by pid, with each process's command line, and the peak of this process itself."""

    by_pid: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    commands: dict[int, str] = field(default_factory=dict)

    def largest(self, sign: str = "") -> float:
        """The largest peak among processes whose command line holds `sign`, MiB."""
        return max((peak for pid, peak in self.by_pid.items() if sign in self.commands[pid]), default=0.0)

    @property
    def own(self) -> float:
        """This process's peak, MiB."""
        return self.by_pid[os.getpid()]


@contextlib.contextmanager
def peak_memory() -> Iterator[Peaks]:
    """Sample this process and everything below it until the body ends."""
    peaks, ended = Peaks(), threading.Event()

    def sample() -> None:
        while not ended.wait(_EVERY_S):
            here = psutil.Process()
            for process in [here, *here.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    peaks.commands.setdefault(process.pid, " ".join(process.cmdline()))
                    resident = process.memory_info().rss / 2**20
                    peaks.by_pid[process.pid] = max(peaks.by_pid[process.pid], resident)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()
