"""Benchmark of dedup_parquet against the recipe's deduplication, with DuckDB for reference, on one synthetic crawl.

    python bench/dedup.py                       20 M rows: ours, the recipe and DuckDB, alternating
    python bench/dedup.py --rounds 3            the same, three times, with medians
    python bench/dedup.py --growth              only ours at 5, 10, 20 and 40 M rows: time per row and peak memory

After each run of ours, the rows are counted in the committed files and compared with the known counts of the crawl:
rows read = kept + duplicates + quarantined by reason. The last line is a JSON object.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dedup_crawl import known_counts, make_crawl
from dedup_sides import SIDES, dataset_of
from process_tree import Used, run_measured

GROWTH_ROWS = (5_000_000, 10_000_000, 20_000_000, 40_000_000)
GROWTH_AT_MOST = 1.15
JVM_MEMORY_BESIDE_HEAP_MIB = 1_024
"""Memory of the JVM in addition to its heap: code, threads, buffers of Netty and Arrow."""
PYTHON_WORKER_BUDGET_MIB = 640
"""Private memory of a Python worker for any number of rows, without the pages of its mapped file of runs."""


@dataclass
class Result:
    """The runs of one side."""

    rows: int
    seconds: list[float] = field(default_factory=list)
    used: list[Used] = field(default_factory=list)
    kept: int = 0

    def add(self, used: Used) -> dict[str, Any]:
        """Add a run, and return the figures that it printed."""
        result_line = json.loads(used.last_line)
        self.seconds.append(result_line["seconds"])
        self.used.append(used)
        return result_line

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)

    def median(self, name: str) -> float:
        """Median of a field of `Used` over the runs."""
        return statistics.median(getattr(used, name) for used in self.used)

    def peak(self, kind: str) -> float:
        """Return the largest resident memory of a process of this kind in any run, in MiB."""
        return max(used.peak_of.get(kind, 0.0) for used in self.used)

    def own(self, kind: str) -> float:
        """Return the same without the pages of mapped files, such as the file of a partition's runs."""
        return max(used.own_of.get(kind, 0.0) for used in self.used)


def main() -> None:
    options = _options()
    folder = Path(options.folder or tempfile.mkdtemp(prefix="bench-dedup-"))
    sizes = GROWTH_ROWS if options.growth else (options.rows,)
    sizes = tuple(-(-rows // options.rows_a_file) * options.rows_a_file for rows in options.sizes or sizes)
    need = max(sizes) * (900 if options.growth else 1_100)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < need:
        sys.exit(
            f"{folder} has {free / 1e9:.0f} GB free, but may need {need / 1e9:.0f} GB. Set --folder to another folder."
        )
    try:
        started = time.monotonic()
        files = make_crawl(folder / "crawl", max(sizes), options.rows_a_file, _log)
        size = sum(path.stat().st_size for path in files)
        took = time.monotonic() - started
        _log(f"crawl of {max(sizes):,} rows, {len(files):,} files, {size / 1e9:.1f} GB: {took:.0f} s")
        line = (
            _measure_growth(folder, files, sizes, options)
            if options.growth
            else _compare(folder, files, sizes[0], options)
        )
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(line))


def _compare(folder: Path, files: list[Path], rows: int, options: argparse.Namespace) -> dict[str, Any]:
    known = known_counts(rows, options.rows_a_file)
    results = {side: Result(rows) for side in options.sides}
    started = time.monotonic()
    runs = options.rounds * len(results)
    for turn in range(options.rounds):
        for side, result in list(results.items())[:: 1 if turn % 2 == 0 else -1]:
            done = sum(len(each.seconds) for each in results.values())
            left = f", about {(runs - done) * (time.monotonic() - started) / done / 60:.0f} min left" if done else ""
            _log(f"round {turn + 1} of {options.rounds}: {side}{left}")
            _run(side, folder, files, rows, known, result, options)
    _print_table(results)
    ours = results["ours"]
    line: dict[str, Any] = {"bench": "dedup", "rows": rows, "rounds": options.rounds, "cores": options.cores}
    line |= {"memory": options.memory, "ours": round(ours.median_s, 1), "ours_cpu_s": round(ours.median("cpu_s"), 1)}
    line |= {"ours_peak_mib": round(ours.median("peak_mib")), "conserved": True}
    if peer := results.get("recipe"):
        line |= {"peer": round(peer.median_s, 1), "ratio": round(peer.median_s / ours.median_s, 2)}
        line |= {"peer_cpu_s": round(peer.median("cpu_s"), 1), "peer_peak_mib": round(peer.median("peak_mib"))}
    if duck := results.get("duckdb"):
        line["duckdb"] = round(duck.median_s, 1)
    return line


def _measure_growth(
    folder: Path, files: list[Path], sizes: tuple[int, ...], options: argparse.Namespace
) -> dict[str, Any]:
    results = {}
    for rows in sizes:
        _log(f"ours at {rows:,} rows")
        results[f"{rows:,} rows"] = result = Result(rows)
        for _ in range(options.rounds):
            _run("ours", folder, files, rows, known_counts(rows, options.rows_a_file), result, options)
    _print_table(results)
    found = list(results.values())
    row_us = [round(result.median_s / result.rows * 1e6, 3) for result in found]
    jvm_budget = int(options.memory.rstrip("g")) * 1024 + JVM_MEMORY_BESIDE_HEAP_MIB
    flat = all(result.own("jvm") < jvm_budget and result.own("python") < PYTHON_WORKER_BUDGET_MIB for result in found)
    growth = row_us[-1] / row_us[0]
    line = {"bench": "dedup-growth", "rows": sizes, "us_a_row": row_us, "growth": round(growth, 3)}
    line |= {"growth_ok": growth <= GROWTH_AT_MOST, "peak_mib": [round(each.median("peak_mib")) for each in found]}
    line |= {
        "jvm_mib": [round(each.peak("jvm")) for each in found],
        "jvm_budget_mib": jvm_budget,
    }
    line |= {
        "python_mib": [round(each.peak("python")) for each in found],
        "python_own_mib": [round(each.own("python")) for each in found],
        "python_budget_mib": PYTHON_WORKER_BUDGET_MIB,
    }
    return {**line, "within_budget": flat, "conserved": True, "cores": options.cores, "memory": options.memory}


def _run(
    side: str, folder: Path, files: list[Path], rows: int, known: dict[str, int], result: Result,
    options: argparse.Namespace,
) -> None:  # fmt: skip
    root, out = folder / f"rows-{rows}", folder / "out"
    dataset = dataset_of(rows, str(root), options.cores, options.memory)
    _publish_crawl(dataset, folder / "crawl", files[: rows // options.rows_a_file])
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    arguments = {"rows": rows, "root": str(root), "out": str(out), "cores": options.cores, "memory": options.memory}
    command = [sys.executable, str(Path(__file__).with_name("dedup_sides.py")), side, json.dumps(arguments)]
    folders = [out, root / "crawl" / "dedup_parquet", root / "crawl" / "dedup_rejects", root / "crawl" / "staging"]
    result_line = result.add(run_measured(command, folders, _log, options.limit))
    if side == "ours":
        _verify_counts(dataset, known)
        result_line["kept"] = known["unique"]
        for name in ("dedup_parquet", "dedup_rejects", "manifests/dedup_parquet"):
            shutil.rmtree(root / "crawl" / name)
    result.kept = result_line["kept"]
    _log(f"{side}: {result.seconds[-1]:.0f} s, {_cpu(result.used[-1])}, {result.kept:,} rows kept")
    shutil.rmtree(out)


def _publish_crawl(dataset: Any, crawl: Path, files: list[Path]) -> None:
    """Commit the files of the crawl as the dataset's raw_csv, by hard links."""
    from laion_assets.stages.status import settings_digest
    from laion_assets.store.manifest import Counts, read_manifest
    from laion_assets.store.store import Store
    from laion_assets.store.transaction import open_transaction

    store = Store.of(dataset)
    if read_manifest(store, "raw_csv", "all") is not None:
        return
    with open_transaction(store, "raw_csv") as transaction:
        for path in files:
            os.link(path, transaction.stage(f"raw_csv/{path.relative_to(crawl)}"))
        transaction.commit(Counts(len(files), len(files)), settings=settings_digest(dataset, "raw_csv"), inputs="")


def _verify_counts(dataset: Any, known: dict[str, int]) -> None:
    """Count the rows of the committed files and compare with the known counts. Raises SystemExit if they differ."""
    import pyarrow.parquet as pq

    from laion_assets.stages.dedup_parquet.handle import DedupParquet
    from laion_assets.store.store import Store

    handle, store = DedupParquet.of(dataset), Store.of(dataset)
    found: Counter[str] = Counter()
    for number, manifest in enumerate(handle.manifests()):
        found["records"] += manifest.counts.rows_in
        found["duplicate"] += manifest.counts.reasons.get("duplicate", 0)
        uids = pq.read_table(store.address(handle.path(dataset.layout, number)), columns=["uid"])["uid"]
        found["unique"] += len(uids.unique())
        found["rows"] += len(uids)
        rejects = pq.read_table(store.address(handle.rejects_path(dataset.layout, number)), columns=["reason"])
        found.update(rejects["reason"].to_pylist())
    rows = found.pop("rows")
    expected = {name: count for name, count in known.items() if count}
    if rows != found["unique"] or dict(found) != expected:
        sys.exit(f"NOT CONSERVED: {rows:,} rows in the files, counted {dict(found)}, and the crawl has {expected}")
    parts = " + ".join(f"{found[name]:,} {name}" for name in sorted(found) if name != "records")
    _log(f"verified from the files: {found['records']:,} rows = {parts}")


def _cpu(used: Used) -> str:
    parts = ", ".join(f"{kind} {seconds:.0f}" for kind, seconds in sorted(used.cpu_of.items()))
    return f"{used.cpu_s:.0f} s of CPU ({parts})"


def _print_table(results: dict[str, Result]) -> None:
    head = ("", "seconds", "rows/s", "us a row", "CPU s", "peak MiB", "JVM MiB", "Python MiB", "disk MiB", "rows kept")
    table = [head]
    for name, each in results.items():
        rate = each.rows / each.median_s
        figures = [f"{each.median_s:,.1f}", f"{rate:,.0f}", f"{1e6 / rate:.2f}", f"{each.median('cpu_s'):,.0f}"]
        figures += [f"{each.median('peak_mib'):,.0f}", f"{each.peak('jvm'):,.0f}", f"{each.peak('python'):,.0f}"]
        table.append((name, *figures, f"{each.median('disk_mib'):,.0f}", f"{each.kept:,}"))
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    for row in table:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cores = os.cpu_count() or 2
    parser.add_argument("--rows", type=int, default=20_000_000, help="rows of the crawl (20 M)")
    parser.add_argument("--rows-a-file", type=int, default=10_000, help="rows of a CSV file (10,000: about 2 MB)")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each side (1)")
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES), help="sides to run (all)")
    parser.add_argument("--growth", action="store_true", help="ours alone, at several sizes")
    parser.add_argument("--sizes", nargs="+", type=int, help="the sizes of --growth (5, 10, 20 and 40 M rows)")
    parser.add_argument("--cores", type=int, default=cores, help="Spark's and DuckDB's threads (all)")
    parser.add_argument("--memory", default=f"{max(cores, 2)}g", help="memory of Spark or DuckDB (1 GB per core)")
    parser.add_argument("--limit", type=float, default=3_600, help="longest run, in seconds")
    parser.add_argument("--folder", help="folder for the crawl and all outputs (default: a temporary folder)")
    parser.add_argument("--keep", action="store_true", help="keep the folder, so that the next run reuses its crawl")
    return parser.parse_args()


def _log(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
