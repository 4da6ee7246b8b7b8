"""Dagster's helper processes that mirror a run's output, out of the reach of Ctrl-C.

Dagster starts a `tail` for each of stdout and stderr, and a Python process that watches it. Ctrl-C reaches the whole
process group of a terminal, and each watcher that it ends prints a traceback there. They end with their run anyway.
"""

import contextlib
import functools
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any


@contextlib.contextmanager
def output_mirrors_in_own_groups() -> Iterator[None]:
    """Make Dagster start these processes in process groups of their own."""
    from dagster._core.execution import compute_logs

    module: Any = compute_logs
    theirs = module.subprocess
    module.subprocess = SimpleNamespace(Popen=functools.partial(subprocess.Popen, process_group=0))
    try:
        yield
    finally:
        module.subprocess = theirs
