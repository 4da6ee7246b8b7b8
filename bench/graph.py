"""The cost of 41,455 partitions in Dagster: the rehearsal, backfilled through the web server, on SQLite and PostgreSQL.

    python bench/graph.py                            both storages, the whole graph on each, and the peer
    python bench/graph.py --storages sqlite          one of them
    python bench/graph.py --dataset sample           the sample's 35 partitions: a smoke test
    python bench/graph.py --folder DIR --keep        keeps files and instances, so that the rehearsal is built once

For each storage: servers and daemon as processes, one backfill of all 41,889 partitions launched by GraphQL as the
Dagster UI launches it, then the latency of the UI's queries, and the bookkeeping alone. The peer is the same graph with
Dagster's defaults and one run per partition, measured on some partitions and scaled. The last line is JSON.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])  # laion_assets_tests is not installed
sys.path.insert(0, os.environ["PYTHONPATH"])

from graph_backfill import PIPELINE, backfill_all
from graph_bookkeeping import ms_per_partition
from graph_load import load_seconds
from graph_page import page_latencies
from graph_peer import peer_seconds_per_partition
from graph_storages import STORAGES, Storage

from laion_assets.dataset.built_in import BUILT_IN


def main() -> None:
    options = _options()
    folder = Path(options.folder or tempfile.mkdtemp(prefix="bench-graph-")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(folder).free) < 6e9:
        sys.exit(f"{folder} has {free / 1e9:.0f} GB free, but 6 GB are needed. Set --folder to another folder.")
    try:
        line = _run_benchmark(options, folder)
    except KeyboardInterrupt:
        _log("interrupted")
        sys.exit(130)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(line))


def _run_benchmark(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    dataset = BUILT_IN[options.dataset]
    shards = dataset.layout.shards
    loads = [load_seconds("laion400m") for _ in range(5)]
    load_s = statistics.median(loads)
    _log(f"code location laion400m: {load_s:.2f} s from start to response (median of {len(loads)})")
    line: dict[str, Any] = {
        "bench": "graph",
        "dataset": dataset.name,
        "cores": os.cpu_count(),
        "load_s": round(load_s, 2),
    }
    found: dict[str, dict[str, Any]] = {}
    for name in options.storages:
        with STORAGES[name](folder / name, dataset) as storage:
            found[name] = _measure(name, storage)
    line["partitions_page_s"] = max(each["partitions_page_s"] for each in found.values())
    line |= {f"{name}_ms_per_partition": each["ms_per_partition"] for name, each in found.items()}
    line["storages"] = found
    ours = min(each["stages"]["image_shards"]["seconds"] for each in found.values()) / shards
    line["ours"] = round(ours, 4)
    if options.peer:
        _log(f"peer: the same graph with Dagster's defaults, one run per partition, {options.peer} partitions")
        peer = peer_seconds_per_partition(folder / options.storages[0], folder / "peer", dataset, options.peer)
        line |= {"peer": round(peer, 3), "peer_measured_on": options.peer, "ratio": round(peer / ours, 1)}
        line["peer_scaled_hours"] = round(peer * shards / 3_600, 1)
        _log(f"peer: {peer:.2f} s per shard, {peer * shards / 3_600:.1f} h for all (scaled); ours {ours * 1e3:.0f} ms")
    _print_table(found)
    return line


def _measure(name: str, storage: Storage) -> dict[str, Any]:
    started = time.monotonic()
    stages = backfill_all(storage.page, storage.dataset.name, lambda text: _log(f"{name}: {text}"))
    took = time.monotonic() - started
    _log(f"{name}: the whole backfill took {took / 60:.1f} min")
    latencies = page_latencies(storage)
    _log(f"{name}: " + ", ".join(f"{what} {seconds:.2f} s" for what, seconds in latencies.items()))
    cost = ms_per_partition(storage)
    _log(f"{name}: bookkeeping alone {cost:.2f} ms per partition")
    return {
        "backfill_s": round(took),
        "stages": stages,
        **{what: round(seconds, 3) for what, seconds in latencies.items()},
        "ms_per_partition": round(cost, 3),
    }


def _print_table(found: dict[str, dict[str, Any]]) -> None:
    rows = [("", *found)]
    rows.append(("whole backfill, minutes", *(f"{each['backfill_s'] / 60:.1f}" for each in found.values())))
    for stage in PIPELINE:
        seconds = [each["stages"][stage]["seconds"] for each in found.values()]
        rows += [(f"  {stage}, s", *(f"{each:.0f}" for each in seconds))]
    created = (each["stages"]["image_shards"]["created_s"] for each in found.values())
    rows.append(("runs of image_shards created within, s", *(f"{seconds:.1f}" for seconds in created)))
    latencies = ("partitions_page_s", "partitions_page_again_s", "graph_poll_s")
    rows += [(what, *(f"{each[what]:.2f}" for each in found.values())) for what in latencies]
    rows.append(
        ("bookkeeping alone, ms per partition", *(f"{each['ms_per_partition']:.2f}" for each in found.values()))
    )
    width = max(len(row[0]) for row in rows)
    for row in rows:
        print(row[0].ljust(width), *(cell.rjust(10) for cell in row[1:]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--dataset", default="rehearsal", choices=["rehearsal", "sample"], help="dataset to backfill (rehearsal)"
    )
    parser.add_argument(
        "--storages", nargs="+", default=list(STORAGES), choices=list(STORAGES), help="storages to measure (both)"
    )
    parser.add_argument("--peer", type=int, default=40, help="partitions that the peer builds; 0: no peer (40)")
    parser.add_argument("--folder", help="folder for files and instances (a temporary folder)")
    parser.add_argument(
        "--keep", action="store_true", help="keep the folder; complete partitions in it are not built again"
    )
    return parser.parse_args()


def _log(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


if __name__ == "__main__":
    main()
