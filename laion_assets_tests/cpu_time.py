"""A limit of the CPU time of a block, for tests of linear time."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def cpu_time_below(limit_s: float) -> Iterator[None]:
    """Assert that the block takes less CPU time in this thread, without garbage collections.

    One collection of all the objects of the tests before takes a second on a slow machine.
    """
    gc.disable()
    try:
        started = time.thread_time()
        yield
        taken_s = time.thread_time() - started
    finally:
        gc.enable()
    assert taken_s < limit_s
