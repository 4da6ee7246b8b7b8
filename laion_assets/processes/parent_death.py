"""A process that ends with its parent, however that ends (kill -9 too), and at whatever moment.

`multiprocessing` cannot say this: its children import the parent's main module and their arguments first, seconds of
work, and only then could a thread of theirs look for the parent. So the children here are started by a command of
their own, say this first, and import afterwards.
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
"""How often the parent is looked for where the kernel does not tell."""


def end_with(parent: int) -> None:
    """End this process when `parent`, its parent's process id, ends.

    On Linux the kernel kills it (prctl(2), PR_SET_PDEATHSIG: also while native code holds the interpreter, and when
    the thread that started it ends); elsewhere a thread looks.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before
            os._exit(1)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def import_path() -> str:
    """PYTHONPATH of a child that is to find the modules that this process finds."""
    return os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
