"""The process that is killed at making shards, as the harness holds it: runs are started and waited for by pipe."""

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
def victim_of(folder: Path, dataset: Dataset) -> Iterator["Victim"]:
    """A process that makes `dataset` when told to; its log lies in `folder`."""
    (folder / "dataset").write_bytes(pickle.dumps(dataset))
    with (folder / "victim.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "laion_assets_tests.kills.victim", str(folder / "dataset")],
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
    """The process that forks runs; one run at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def start(self, kind: str) -> int:
        """Start a run; its process id, which is its session's too."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{'retry' if kind == 'retried' else 'make'}\n")
        self._process.stdin.flush()
        return int(self._lines.get(timeout=60))

    def status(self, wait_s: float, until: Callable[[], bool] = lambda: False) -> int | None:
        """The run's exit status, None while it runs after that time, or as soon as `until` says so."""
        ends = time.monotonic() + wait_s
        while not until() and (left := ends - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                return int(self._lines.get(timeout=min(left, 0.02)))
        return None
