"""Benchmark of raw_csv against aria2c with the recipe's settings, on a tree of CSV files from nginx on loopback.

    python bench/raw_csv.py                 20,000 files of 4 to 40 KB and 4 of 200 MB, three rounds, alternating
    python bench/raw_csv.py --small         300 files and one of 4 MB, to test the benchmark
    python bench/raw_csv.py --no-reference  without aria2c's second, better set of settings

Our side is fetch_raw_csv: it reads the listing, downloads, hashes, syncs and commits the files. aria2c gets the list of
URLs for free, does not hash, and leaves the files in the system's cache. Then our side is killed with -9 in the middle
and started again, and nginx's access log shows which bytes were fetched twice. The last line is JSON.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from csv_resume import kill_and_resume
from csv_sides import Run, run_aria2c, run_ours
from csv_site import CsvTree

PEER, TUNED = "aria2c, the recipe's settings", "aria2c, no preallocation"


def main() -> None:
    options = _options()
    if not shutil.which("aria2c"):
        sys.exit("aria2c is missing: run `make bench-csv` as root, or sudo apt-get install aria2.")
    folder = Path(tempfile.mkdtemp(prefix="bench-csv-", dir=options.folder))
    try:
        need = 4 * (options.files * 22_000 + options.large * options.large_mb * 1_000_000)
        if shutil.disk_usage(folder).free < need:
            sys.exit(f"{folder} has less than {need / 1e9:.0f} GB of free space. Choose another --folder.")
        _bench(options, folder)
    except KeyboardInterrupt:
        _log("interrupted; all files were removed")
        sys.exit(130)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _bench(options: argparse.Namespace, folder: Path) -> None:
    _log(f"creating {options.files:,} small files and {options.large} of {options.large_mb} MB")
    tree = CsvTree(folder, options.files, options.large, options.large_mb << 20)
    runs: dict[str, list[Run]] = {"ours": [], PEER: []} | ({} if options.no_reference else {TUNED: []})
    synced: list[float] = []
    with tree.serve() as url:
        for number in range(options.rounds):
            for side, found in runs.items():
                out = folder / "out"
                shutil.rmtree(out, ignore_errors=True)
                _sync(folder)
                _log(f"round {number + 1} of {options.rounds}: {side}")
                if side == "ours":
                    found.append(run_ours(url, out, _log))
                else:
                    extra = () if side == PEER else ("--file-allocation=none",)
                    found.append(run_aria2c(url, list(tree.files), out, extra))
                    if side == PEER:
                        synced.append(_sync(folder))
                _log(f"  {found[-1].seconds:.1f} s, {found[-1].cpu_s:.1f} s of CPU")
        shutil.rmtree(folder / "out", ignore_errors=True)
    _log("killed and resumed")
    resume = kill_and_resume(tree, folder, options.rate_mb << 20, _log)
    _table(tree, runs)
    median = {side: statistics.median(run.seconds for run in found) for side, found in runs.items()}
    cpu = {side: statistics.median(run.cpu_s for run in found) for side, found in runs.items()}
    result = {
        "bench": "csv",
        "ours": round(median["ours"], 2),
        "peer": round(median[PEER], 2),
        "ratio": round(median[PEER] / median["ours"], 2),
        "unit": "seconds",
        "files": len(tree.files),
        "bytes": tree.bytes,
        "ours_cpu_s": round(cpu["ours"], 2),
        "peer_cpu_s": round(cpu[PEER], 2),
        "ours_listing_s": round(statistics.median(run.listing_s for run in runs["ours"]), 2),
        "ours_peak_mib": round(max(run.peak_mib for run in runs["ours"])),
        "peer_sync_s": round(statistics.median(synced), 2),
        "ratio_to_tuned_peer": None if options.no_reference else round(median[TUNED] / median["ours"], 2),
        "complete_at_kill": resume.complete,
        "refetched_files": resume.refetched,
        "partial_at_kill": resume.partial,
        "resumed_by_range": resume.resumed,
        "bytes_fetched_twice": resume.bytes_twice,
        "connections_of_resume": resume.connections,
        "rounds": options.rounds,
        "cores": os.cpu_count(),
    }
    print(json.dumps(result))
    if resume.refetched:
        sys.exit(f"{resume.refetched} files that were complete at the kill were fetched again.")


def _table(tree: CsvTree, runs: dict[str, list[Run]]) -> None:
    print(f"\n{len(tree.files):,} files, {tree.bytes / 1e6:,.0f} MB; medians of {len(runs['ours'])} rounds\n")
    print(f"{'':32}{'seconds':>9}{'files/s':>9}{'MB/s':>9}{'CPU s':>9}")
    for side, found in runs.items():
        seconds = statistics.median(run.seconds for run in found)
        cpu = statistics.median(run.cpu_s for run in found)
        rates = f"{len(tree.files) / seconds:>9,.0f}{tree.bytes / 1e6 / seconds:>9,.0f}"
        print(f"{side:32}{seconds:>9.1f}{rates}{cpu:>9.1f}")
    print(flush=True)


def _sync(folder: Path) -> float:
    """Flush the system's cache, so that the next side does not wait for it. Returns the seconds."""
    import time

    started = time.monotonic()
    subprocess.run(["sync", "-f", str(folder)], check=True)
    return time.monotonic() - started


def _log(line: str) -> None:
    print(line, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000, help="small files, 4 to 40 KB each (20,000)")
    parser.add_argument("--large", type=int, default=4, help="large files (4)")
    parser.add_argument("--large-mb", type=int, default=200, help="size of a large file in MiB (200)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; each side runs once per round (3)")
    parser.add_argument("--rate-mb", type=int, default=20, help="in the killed fetch, MiB/s of each large file (20)")
    parser.add_argument("--folder", help="folder of temporary files (the system's temporary folder)")
    parser.add_argument("--no-reference", action="store_true", help="leave out aria2c without preallocation")
    parser.add_argument("--small", action="store_true", help="300 files, one of 4 MB, one round: a smoke test")
    options = parser.parse_args()
    if options.small:
        options.files, options.large, options.large_mb, options.rounds, options.rate_mb = 300, 1, 4, 1, 1
        options.no_reference = True
    return options


if __name__ == "__main__":
    main()
