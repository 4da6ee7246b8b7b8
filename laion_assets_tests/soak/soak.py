"""Rebuild shards of the sample's web site repeatedly, hostile pages included, and check for growth.

    python -m laion_assets_tests.soak.soak --minutes 60     (make soak MINUTES=60)

This is one run of the worker pool with the same workers throughout. Memory, threads, file descriptors and child
processes of this process and of each worker are sampled every few seconds into `artifacts/soak.csv`, with a plot beside
it. The first quarter is warm-up. The run fails if a process's median of the last quarter exceeds that of the second
quarter by more than GROWTH, if a shard failed, or if a worker was lost.
"""

import argparse
import contextlib
import csv
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import psutil

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.sample.crawl import crawl_rows
from laion_assets.sample.running import running_site
from laion_assets.stages.image_shards.shard.outcome import ShardOutcome
from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets.workers.pool import run_tasks
from laion_assets_tests.soak.plot import line_plots
from laion_assets_tests.stages.image_shards.shards import dataset_of

EVERY_S = 2.0
SHARDS, ROWS = 8, 480
MEASURES = ("rss_mib", "threads", "descriptors", "children")
GROWTH: dict[str, Callable[[float], float]] = {
    "rss_mib": lambda before: 24 + 0.1 * before,
    "threads": lambda before: 4,
    "descriptors": lambda before: 8,
    "children": lambda before: 0,
}
"""Allowed increase of the last quarter's median over the second's."""


@dataclass(frozen=True)
class Sample:
    """One measurement of one process, `seconds` after the start."""

    seconds: float
    process: str
    rss_mib: float
    threads: int
    descriptors: int
    children: int


def soak(
    minutes: float, workers: int, folder: Path, count_rows: int = ROWS, task: type[ShardTask] = ShardTask
) -> tuple[list[Sample], int, list[str]]:
    """Run for `minutes`. Return the samples, the number of shards built, and the failures of shards."""
    rows = sorted({(row.url, row.caption) for row in crawl_rows() if row.url.startswith("http")})
    rows = rows[:: max(1, len(rows) // count_rows)][:count_rows]
    samples: list[Sample] = []
    built = 0

    def count(outcome: ShardOutcome) -> None:
        nonlocal built
        built += 1

    with running_site() as site:
        limits = replace(SAMPLE.images.fetch, deadline_s=2.0, connect_timeout_s=1.0, retries=0)
        images = replace(SAMPLE.images, fetch=limits, threads=16)
        dataset = dataset_of(folder, rows, site.resolve, SHARDS, images)
        ends = time.monotonic() + 60 * minutes

        def tasks() -> Iterator[ShardTask]:
            number = 0
            while time.monotonic() < ends:
                yield task(dataset, number % SHARDS, force=True)
                number += 1

        with _sample_processes(samples):
            failures = run_tasks(tasks(), workers, count)
    return samples, built, [str(failure) for failure in failures]


def problems(samples: Sequence[Sample]) -> list[str]:
    """Return a sentence for each measure that grew too much, and for each process that ended early."""
    by_process: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_process[sample.process].append(sample)
    total = max(sample.seconds for sample in samples)
    found = []
    for process, series in by_process.items():
        early = [sample for sample in series if total / 4 <= sample.seconds < total / 2]
        late = [sample for sample in series if sample.seconds >= total * 3 / 4]
        if not early or not late:
            found.append(f"{process} existed only from {series[0].seconds:.0f} s to {series[-1].seconds:.0f} s")
            continue
        for measure in MEASURES:
            before, after = (median(getattr(sample, measure) for sample in part) for part in (early, late))
            if after - before > GROWTH[measure](before):
                found.append(f"{measure} of {process} grew from {before:g} to {after:g}")
    return found


@contextlib.contextmanager
def _sample_processes(samples: list[Sample]) -> Iterator[None]:
    ended, started = threading.Event(), time.monotonic()

    def watch() -> None:
        here = psutil.Process()
        names = {here.pid: "parent"}
        while not ended.wait(EVERY_S):
            for process in [here, *here.children()]:
                with contextlib.suppress(psutil.Error):
                    command = process.cmdline()
                    if process.pid not in names and not any("laion_assets.workers.child" in word for word in command):
                        continue
                    name = names.setdefault(process.pid, f"worker {len(names)}")
                    samples.append(_measure(process, name, time.monotonic() - started))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _measure(process: psutil.Process, name: str, seconds: float) -> Sample:
    with process.oneshot():
        memory, threads, descriptors = process.memory_info().rss, process.num_threads(), process.num_fds()
    children = len(process.children(recursive=True))
    return Sample(round(seconds, 1), name, round(memory / 2**20, 1), threads, descriptors, children)


def write(samples: Sequence[Sample], folder: Path) -> tuple[Path, Path]:
    """Write the samples as CSV and as a plot. Return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    table, plot = folder / "soak.csv", folder / "soak.svg"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("seconds", "process", *MEASURES))
        writer.writerows(vars(sample).values() for sample in samples)
    series: dict[str, dict[str, list[tuple[float, float]]]] = {measure: defaultdict(list) for measure in MEASURES}
    for sample in samples:
        for measure in MEASURES:
            series[measure][sample.process].append((sample.seconds, getattr(sample, measure)))
    plot.write_text(line_plots(series, "seconds"))
    return table, plot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("artifacts"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="laion-assets-soak-") as folder:
        samples, built, failures = soak(options.minutes, options.workers, Path(folder))
    table, plot = write(samples, options.folder)
    found = [*failures, *problems(samples)]
    for process in dict.fromkeys(sample.process for sample in samples):
        series = [sample for sample in samples if sample.process == process]
        last = series[-1]
        peak = max(sample.rss_mib for sample in series)
        print(
            f"{process:<10} {last.rss_mib:>7.1f} MiB at the end, {peak:.1f} at most, {last.threads} threads, "
            f"{last.descriptors} descriptors, {last.children} child processes"
        )
    print(f"{built} shards of {ROWS // SHARDS} rows in {options.minutes:g} minutes; {table}, {plot}")
    print("no growth beyond the limits" if not found else "\n".join(found))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
