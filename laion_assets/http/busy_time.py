"""Measure the time in which this machine was too busy to process a response. It extends a URL's deadline.

A background thread sleeps for INTERVAL_S at a time and adds up two measures:

- lag: how much later than requested it woke up. The kernel, a CPU quota or the interpreter's lock delayed this process,
  or the machine was suspended.
- CPU contention: more than NORMAL_TASKS runnable tasks per core. With r tasks per core each task gets 1/r of a core.
  The share above NORMAL_TASKS counts as lost. A machine at its normal full load loses no time.

Where the system does not report its runnable tasks (/proc/loadavg), only lag is measured.
"""

import functools
import os
import threading
import time

INTERVAL_S = 0.1
NORMAL_TASKS = 2.0
"""Runnable tasks per core at normal load (a worker and its decoder), at which no time is lost."""
_MIN_LAG_S = 0.01
_INTERVALS = 10
"""Number of intervals over which `slowdown` is measured."""


class BusyTime:
    """The seconds lost because the machine was too busy. Thread-safe to read; only one thread may call `add`.

    `lost_s` is the total of this process. `slowdown` is the ratio of elapsed time to available time over the last
    second, 1 or more.
    """

    def __init__(self) -> None:
        self.lost_s = 0.0
        self.slowdown = 1.0
        self._recent = [(INTERVAL_S, 0.0)] * _INTERVALS
        self._next = 0

    def add(self, elapsed_s: float, tasks_per_core: float) -> None:
        """Add one interval that took `elapsed_s` instead of INTERVAL_S, at this load."""
        lag = elapsed_s - INTERVAL_S
        lost = lag if lag > _MIN_LAG_S else 0.0
        if tasks_per_core > NORMAL_TASKS:
            lost += (elapsed_s - lost) * (1 - NORMAL_TASKS / tasks_per_core)
        self._recent[self._next] = (elapsed_s, lost)
        self._next = (self._next + 1) % _INTERVALS
        self.lost_s += lost
        elapsed = sum(interval for interval, _ in self._recent)
        recently_lost = sum(lost for _, lost in self._recent)
        # Stored here, ten times a second, because each operation on a socket reads it.
        self.slowdown = elapsed / max(elapsed - recently_lost, elapsed / 100)

    def run(self) -> None:
        """Measure until the process ends."""
        cores = os.cpu_count() or 1
        before = time.monotonic()
        while True:
            time.sleep(INTERVAL_S)
            now = time.monotonic()
            self.add(now - before, count_runnable_tasks() / cores)
            before = now


def count_runnable_tasks() -> int:
    """Return how many tasks of this machine run or wait for a core, without the caller; 0 if unknown.

    Reads /proc/loadavg (proc(5)), which costs far less than `procs_running` of /proc/stat, the same number.
    """
    try:
        with open("/proc/loadavg", encoding="ascii", errors="replace") as file:
            return max(0, int(file.read().split()[3].partition("/")[0]) - 1)
    except (OSError, ValueError, IndexError):
        return 0


@functools.lru_cache(maxsize=1)
def busy_time() -> BusyTime:
    """Return this process's measure. The first call starts it."""
    measure = BusyTime()
    threading.Thread(target=measure.run, name="busy-time", daemon=True).start()
    return measure
