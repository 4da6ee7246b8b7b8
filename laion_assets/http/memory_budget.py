"""The memory budget for all bodies that a worker process holds at once, so that large bodies cannot add up.

Without a budget, 64 threads and the queue behind them may hold 192 bodies of 20 MB. Each body has `FREE_BYTES` outside
the budget. A larger body reserves its maximum size once, before it is read further. So no holder of a reservation
waits for another one, and there is no deadlock.
"""

import contextlib
import ctypes
import threading
import time
from collections import deque

from laion_assets.http.clock import Clock
from laion_assets.reasons import Reason, Rejection

FREE_BYTES = 512 * 1024
"""Size up to which a body needs no reservation. Nine of ten images of the crawl are smaller."""

RETURNED_BYTES = 8_000_000
KEPT_BYTES = 2_000_000
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1  # malloc.h of glibc


def return_large_blocks() -> None:
    """Make this process return freed memory blocks over RETURNED_BYTES to the system. Does nothing without glibc.

    By default glibc raises this threshold to the size of freed blocks (mallopt(3)), up to 32 MB, and then keeps bodies
    of 20 MB in the arenas of its threads. With a budget of 256 MB this used 938 MB of resident memory, against 341 MB.
    Each arena keeps KEPT_BYTES of free memory: setting one threshold fixes the other at 128 KB, and then the memory of
    each image is requested from the system again.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, RETURNED_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)


def charged_bytes(size: int) -> int:
    """Return how many bytes of the budget a body of this size uses."""
    return size if size > FREE_BYTES else 0


class MemoryBudget:
    """Bytes for large bodies, granted first come, first served. Thread-safe."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self.free_bytes = total_bytes
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, threading.Event]] = deque()

    def reserve(self, size: int, clock: Clock) -> None:
        """Reserve `size` bytes. Waits up to the clock's queue timeout. Raises Rejection `local_failure`."""
        size = min(size, self.total_bytes)
        with self._lock:
            if not self._waiting and size <= self.free_bytes:
                self.free_bytes -= size
                return
            request = (size, threading.Event())
            self._waiting.append(request)
        started = time.monotonic()
        request[1].wait(max(0.0, clock.queue_timeout_s))
        clock.add_queue_time(time.monotonic() - started)
        with self._lock:
            if request[1].is_set():
                return
            self._waiting.remove(request)
            self._grant()
        raise Rejection(Reason.LOCAL_FAILURE, "no memory for a large body within images.fetch.host_wait_s")

    def release(self, size: int) -> None:
        """Return bytes to the budget."""
        if size:
            with self._lock:
                self.free_bytes += size
                self._grant()

    def _grant(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.free_bytes:
            size, event = self._waiting.popleft()
            self.free_bytes -= size
            event.set()


class Reservation:
    """The bytes of a budget that are reserved for one body. Not thread-safe."""

    def __init__(self, budget: MemoryBudget, clock: Clock) -> None:
        self._budget = budget
        self._clock = clock
        self.reserved_bytes = 0

    def reserve(self, size: int) -> None:
        """Reserve for a body of `size` bytes, unless it is small or something is reserved already."""
        if self.reserved_bytes == 0 and charged_bytes(size):
            size = min(size, self._budget.total_bytes)
            self._budget.reserve(size, self._clock)
            self.reserved_bytes = size

    def shrink(self, size: int) -> None:
        """Release all but what a body of `size` bytes uses; 0 releases all."""
        excess = max(0, self.reserved_bytes - charged_bytes(size))
        self.reserved_bytes -= excess
        self._budget.release(excess)
