"""One budget of bytes for all bodies that a worker process holds at once, so that bombs cannot add up.

Without it 64 threads and the queue behind them may hold 192 bodies of 20 MB. Each body has `FREE_BYTES` of its own; a
larger one reserves all that it may grow to before it is read further, once. So nobody who holds bytes ever waits for
more of them, and those who hold them all end by themselves: there is no deadlock.
"""

import contextlib
import ctypes
import threading
import time
from collections import deque

from laion_assets.http.clock import Clock
from laion_assets.reasons import Reason, Rejection

FREE_BYTES = 512 * 1024
"""What a body may take without asking. Nine of ten pictures of the crawl are smaller."""

RETURNED_BYTES = 8_000_000
KEPT_BYTES = 2_000_000
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1  # malloc.h of glibc


def return_large_blocks() -> None:
    """Let this process give memory blocks over RETURNED_BYTES back to the system when they are freed.

    glibc raises that bound by itself to the size of what was freed (mallopt(3)), up to 32 MB, and then keeps bodies of
    20 MB in the arenas of its threads: with a budget of 256 MB that made 938 MB of resident memory, against 341 MB.
    KEPT_BYTES of free memory stay with each arena: setting one bound fixes the other at 128 KB, and then each picture's
    memory is asked of the system anew. Elsewhere than on glibc it does nothing.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, RETURNED_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)


def charge(size: int) -> int:
    """What a body of this size takes of the budget."""
    return size if size > FREE_BYTES else 0


class MemoryBudget:
    """Bytes for large bodies, given in the order of asking. Thread-safe."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self.free_bytes = total_bytes
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, threading.Event]] = deque()

    def take(self, size: int, clock: Clock) -> None:
        """Take `size` bytes, waiting up to the clock's queue timeout. Raises Rejection `local_failure`."""
        size = min(size, self.total_bytes)
        with self._lock:
            if not self._waiting and size <= self.free_bytes:
                self.free_bytes -= size
                return
            mine = (size, threading.Event())
            self._waiting.append(mine)
        started = time.monotonic()
        mine[1].wait(max(0.0, clock.queue_timeout_s))
        clock.add_queue_time(time.monotonic() - started)
        with self._lock:
            if mine[1].is_set():
                return
            self._waiting.remove(mine)
            self._serve()
        raise Rejection(Reason.LOCAL_FAILURE, "no memory for a large body within images.host_wait_s")

    def give(self, size: int) -> None:
        """Give bytes back."""
        if size:
            with self._lock:
                self.free_bytes += size
                self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.free_bytes:
            size, event = self._waiting.popleft()
            self.free_bytes -= size
            event.set()


class Reservation:
    """What one body has taken of a budget. Not thread-safe."""

    def __init__(self, budget: MemoryBudget, clock: Clock) -> None:
        self._budget = budget
        self._clock = clock
        self.held = 0

    def take(self, size: int) -> None:
        """Reserve for a body of `size` bytes, if it is none of the small ones; at most once a body."""
        if self.held == 0 and charge(size):
            size = min(size, self._budget.total_bytes)
            self._budget.take(size, self._clock)
            self.held = size

    def keep(self, size: int) -> None:
        """Give back all but what a body of `size` bytes takes; 0 gives back all."""
        excess = max(0, self.held - charge(size))
        self.held -= excess
        self._budget.give(excess)
