"""A harness's handle of the process that is killed while it builds a stage: starts runs and waits for them by pipe."""

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from laion_assets.dataset.dataset import Dataset


@contextlib.contextmanager
def start_victim(folder: Path, dataset: Dataset, module: str = "victim") -> Iterator["Victim"]:
    """Start a process of this module that builds `dataset` on request. Its log, `victim.log`, is in `folder`."""
    (folder / "dataset").write_bytes(pickle.dumps(dataset))
    with (folder / "victim.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"laion_assets_tests.kills.{module}", str(folder / "dataset")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "NO_ALBUMENTATIONS_UPDATE": "1"},
        )
    try:
        yield Victim(process)
    finally:
        process.kill()
        process.wait()


class Victim:
    """A process that forks one run at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def start(self, kind: str) -> int:
        """Start a run. Return its process id, which is also its session id."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kind}\n")
        self._process.stdin.flush()
        return int(self._lines.get(timeout=60))

    def wait_for_status(self, wait_s: float, until: Callable[[], bool] = lambda: False) -> int | None:
        """Wait for the run's exit status. Return None after `wait_s`, or as soon as `until` returns true."""
        ends = time.monotonic() + wait_s
        while not until() and (left := ends - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                return int(self._lines.get(timeout=min(left, 0.02)))
        return None
