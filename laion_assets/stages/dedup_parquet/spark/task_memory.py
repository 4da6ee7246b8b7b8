"""Memory of a Python worker of Spark: blocks that are freed are used again, not given back and asked for anew."""

import contextlib
import ctypes
import functools
import gc

import pyarrow as pa

KEPT_BYTES = 256 << 20
"""Free memory that stays with the process; a task's peak is above it."""
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1  # malloc.h of glibc
_ANY_BLOCK = (1 << 31) - 1


@functools.cache
def keep_freed_memory() -> None:
    """Once a process: keep what is freed, up to KEPT_BYTES, and what was imported out of the garbage collector's sight.

    A task makes and drops blocks of some megabytes all the time. By its defaults glibc maps each of them anew, and
    Arrow's allocator returns them within a second: every page is then cleared by the kernel once more, a sixth of a
    task's time. Spark's worker collects garbage after each task. Elsewhere than on glibc only Arrow's part is set.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _ANY_BLOCK)
        library.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
    gc.freeze()
