"""The two sides of the raw_csv benchmark: fetch_raw_csv in its own process, and aria2c with the recipe's settings.

python bench/csv_sides.py URL ROOT [DOWNLOADS]      ours; the last line is JSON
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

RECIPE = ("-j", "100", "-x", "16", "-s", "16", "-c")
"""aria2c as the recipe calls it (laion-prepro, laion400m/download_csv): 100 downloads, 16 connections each, resume."""


@dataclass(frozen=True)
class Run:
    """One run of a side: seconds, CPU seconds of its processes, and seconds until the listing was read (ours)."""

    seconds: float
    cpu_s: float
    listing_s: float = 0.0
    peak_mib: float = 0.0


def run_ours(url: str, root: Path, log: Callable[[str], None]) -> Run:
    """Run fetch_raw_csv: listing, download, hashing, commit. Raises RuntimeError if it fails."""
    with subprocess.Popen(command_of_ours(url, root), stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        last = ""
        for line in process.stdout:
            last = line.rstrip("\n")
            log(f"  ours: {last[:110]}")
    if process.returncode:
        raise RuntimeError(f"fetch_raw_csv ended with {process.returncode}")
    result = json.loads(last)
    return Run(result["seconds"], result["cpu_s"], result["listing_s"], result["peak_mib"])


def command_of_ours(url: str, root: Path) -> list[str]:
    """Return the command line of our side."""
    return [sys.executable, str(Path(__file__)), url, str(root)]


def run_aria2c(url: str, paths: list[str], folder: Path, extra: tuple[str, ...] = ()) -> Run:
    """Run aria2c on a list of the same URLs, as it cannot read listings. Raises RuntimeError if it fails."""
    folder.mkdir(parents=True)
    names = folder.with_suffix(".urls")
    names.write_text("".join(f"{url}{path}\n out={path}\n" for path in paths), encoding="utf-8")
    command = ["aria2c", *RECIPE, *extra, "-i", str(names), "-d", str(folder)]
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        raise RuntimeError(f"aria2c ended with {ended.returncode}")
    return Run(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _fetch(url: str, root: str) -> None:
    from laion_assets.dataset.built_in import LAION400M
    from laion_assets.stages.raw_csv.build import fetch_raw_csv
    from laion_assets.stages.raw_csv.transfers import parallel as fetching
    from laion_assets.store.store import Store

    fetching.PROGRESS_EVERY_S = 1.0
    dataset = replace(LAION400M, source=url, root=root)
    started, cpu, listed = time.monotonic(), time.process_time(), 0.0

    def log(line: str) -> None:
        nonlocal listed
        listed = listed or time.monotonic() - started
        print(line, flush=True)

    fetch_raw_csv(dataset, Store.of(dataset), log)
    print(
        json.dumps(
            {
                "seconds": time.monotonic() - started,
                "cpu_s": time.process_time() - cpu,
                "listing_s": listed,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


if __name__ == "__main__":
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    _fetch(*sys.argv[1:3])
