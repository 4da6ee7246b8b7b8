"""Time that this machine was too busy to serve a request: it is not counted against a URL's deadline.

Two measures are added up every INTERVAL_S by a thread that only sleeps:

- lag: how much later than asked it woke up. The kernel, a CPU quota or the interpreter's lock kept this process
  waiting, or the machine was suspended.
- crowding: more than FREE_TASKS runnable tasks a core (`procs_running` of /proc/stat). With r tasks a core each gets
  1/r of it; the share beyond FREE_TASKS, which a machine that works at full load has anyway, counts as lost.

Where /proc/stat does not exist, lag is measured alone.
"""

import functools
import os
import threading
import time

INTERVAL_S = 0.1
FREE_TASKS = 2.0
"""Runnable tasks a core without any time lost: a worker and its decoder a core are the normal load."""
_LEAST_LAG_S = 0.01
_RECENT = 10
"""Intervals that `slowdown` looks back."""


class BusyTime:
    """`lost_s` grows while the machine is too busy. Thread-safe to read; `add` is for one thread."""

    def __init__(self) -> None:
        self.lost_s = 0.0
        self._recent = [(INTERVAL_S, 0.0)] * _RECENT
        self._place = 0

    def add(self, elapsed_s: float, tasks_per_core: float) -> None:
        """Count one interval that took `elapsed_s` instead of INTERVAL_S, at this load."""
        lag = elapsed_s - INTERVAL_S
        lost = lag if lag > _LEAST_LAG_S else 0.0
        if tasks_per_core > FREE_TASKS:
            lost += (elapsed_s - lost) * (1 - FREE_TASKS / tasks_per_core)
        self._recent[self._place] = (elapsed_s, lost)
        self._place = (self._place + 1) % _RECENT
        self.lost_s += lost

    @property
    def slowdown(self) -> float:
        """How many seconds lately went by for each second in which this process could work: 1 or more."""
        elapsed = sum(one for one, _ in self._recent)
        lost = sum(other for _, other in self._recent)
        return elapsed / max(elapsed - lost, elapsed / 100)

    def run(self) -> None:
        """Measure for as long as the process lives."""
        cores = os.cpu_count() or 1
        before = time.monotonic()
        while True:
            time.sleep(INTERVAL_S)
            now = time.monotonic()
            self.add(now - before, runnable_tasks() / cores)
            before = now


def runnable_tasks() -> int:
    """Tasks of this machine that run or wait for a core, but for the caller; 0 where the system does not say."""
    try:
        with open("/proc/stat", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("procs_running "):
                    return max(0, int(line.split()[1]) - 1)
    except (OSError, ValueError):
        pass
    return 0


@functools.lru_cache(maxsize=1)
def busy_time() -> BusyTime:
    """This process's measure, which starts with the first call."""
    measure = BusyTime()
    threading.Thread(target=measure.run, name="busy-time", daemon=True).start()
    return measure
