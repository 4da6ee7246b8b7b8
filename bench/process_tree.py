"""Resources of a command and all its children, sampled while it runs: seconds, CPU, memory and disk."""

import contextlib
import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_EVERY_S = 0.25
_DISK_EVERY_S = 2.0


@dataclass
class Used:
    """Resources of one command.

    `cpu_s` is user and system time of the whole tree, `cpu_of` that of the kinds `jvm` and `python`. `peak_mib` is the
    largest sum of resident memory at one time. `peak_of` is the largest resident memory of one process by its kind,
    shared pages included; `own_of` is the same without pages of mapped files, which the kernel can drop. `disk_mib` is
    the largest size of the folders.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mib: float = 0.0
    disk_mib: float = 0.0
    peak_of: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    own_of: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    cpu_of: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    last_line: str = ""


def run_measured(command: Sequence[str], folders: Sequence[Path], log: Callable[[str], None], limit_s: float) -> Used:
    """Run a command to its end. Raises RuntimeError if it fails or takes longer than `limit_s`."""
    used, started = Used(), time.monotonic()
    cpu: dict[tuple[str, int], float] = {}
    next_disk = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        root = psutil.Process(process.pid)
        reader = _Lines(process, log)
        while process.poll() is None:
            now = time.monotonic() - started
            _sample(root, cpu, used)
            if now >= next_disk:
                used.disk_mib = max(used.disk_mib, sum(_size(folder) for folder in folders) / 2**20)
                next_disk = now + _DISK_EVERY_S
            if now > limit_s:
                for child in [*root.children(recursive=True), root]:
                    with contextlib.suppress(psutil.Error):
                        child.kill()
                raise RuntimeError(f"{command} took longer than {limit_s} s")
            time.sleep(_EVERY_S)
        used.wall_s = time.monotonic() - started
        used.last_line = reader.end()
    used.cpu_s = sum(cpu.values())
    for (kind, _), seconds in cpu.items():
        used.cpu_of[kind] += seconds
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return used


def _sample(root: psutil.Process, cpu: dict[tuple[str, int], float], used: Used) -> None:
    together = 0.0
    with contextlib.suppress(psutil.Error):
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                times, memory = process.cpu_times(), process.memory_info()
                resident = memory.rss / 2**20
                together += resident
                kind = "jvm" if process.name() == "java" else "python"
                cpu[kind, process.pid] = max(cpu.get((kind, process.pid), 0.0), times.user + times.system)
                used.peak_of[kind] = max(used.peak_of[kind], resident)
                used.own_of[kind] = max(used.own_of[kind], resident - memory.shared / 2**20)
    used.peak_mib = max(used.peak_mib, together)


def _size(folder: Path) -> int:
    total = 0
    # Folders are deleted during the walk: os.walk skips deleted ones, Path.rglob raises.
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(parent, name)).st_size
    return total


class _Lines:
    """Logs the lines of a running process, except the last one."""

    def __init__(self, process: subprocess.Popen[str], log: Callable[[str], None]) -> None:
        import threading

        self._process, self._log, self._held = process, log, ""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            if self._held:
                self._log(self._held)
            self._held = line.rstrip("\n")

    def end(self) -> str:
        self._thread.join(10)
        return self._held
