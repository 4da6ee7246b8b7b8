"""Child processes that end with their parent, even if the parent is killed with SIGKILL.

`multiprocessing` cannot guarantee this: its children first import the parent's main module and their arguments, which
takes seconds, before they could watch the parent. So our children are started with a command of their own. They call
`end_with` first and import afterwards.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LOOK_S = 0.5
"""Interval between checks for the parent, on systems whose kernel does not report its death."""


def end_with(parent: int) -> None:
    """End this process when `parent`, its parent's process id, ends.

    On Linux the kernel kills it (prctl(2), PR_SET_PDEATHSIG), even while native code holds the interpreter lock, and
    also when the parent's thread that started this process ends. On other systems a thread checks for the parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent ended before the prctl call
            os._exit(1)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def import_path() -> str:
    """Return a PYTHONPATH with which a child process finds the same modules as this process."""
    return os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
