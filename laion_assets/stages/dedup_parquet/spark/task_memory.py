"""Memory of Spark's Python workers: freed blocks are kept and reused, not returned to the system."""

import contextlib
import ctypes
import functools
import gc

import pyarrow as pa

KEPT_BYTES = 256 << 20
"""Free memory that a process keeps. The peak of a task is higher."""
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1  # malloc.h of glibc
_ANY_BLOCK = (1 << 31) - 1


@functools.cache
def keep_freed_memory() -> None:
    """Keep up to KEPT_BYTES of freed memory, and exclude imported modules from garbage collection. Runs once.

    A task allocates and frees blocks of some megabytes all the time. By default glibc maps each of them again, and
    Arrow's allocator returns them within a second, so the kernel must clear every page again: a sixth of a task's time.
    Spark's worker collects garbage after each task. Without glibc only Arrow's allocator is changed.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _ANY_BLOCK)
        library.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
    gc.freeze()
