"""Backfill the whole rehearsal while the run's process, the daemon and the web server are killed with SIGKILL.

    python -m laion_assets_tests.kills.backfill --undisturbed HOME    make test-backfill-kills

The services are those of `deploy/` with a real PostgreSQL. The backfill of all partitions is launched through the web
server. Then one of the three is killed at random moments, each equally often. Services are started again. At the end

* the backfill, or a later one that continues it, is complete, and so is every partition on disk;
* no partition that was complete at a kill was rebuilt: its manifest is the same file, and Dagster has one event that a
  run built it;
* every partition up to the embeddings has the content of an undisturbed run in HOME/data (`bench/graph.py --keep`), and
  the indices have as many vectors.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from laion_assets.dataset.built_in import REHEARSAL, SAMPLE
from laion_assets.dataset.dataset import Dataset
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.knn_indices.handle import KNN_INDICES
from laion_assets.stages.registry import pipeline_names
from laion_assets.stages.status import DatasetStatus
from laion_assets.store.store import Store
from laion_assets_tests.end_to_end.dagster_ui import BACKFILL
from laion_assets_tests.end_to_end.deployment import Deployment, deployment
from laion_assets_tests.postgres import Database, postgres

PIPELINE = pipeline_names(SAMPLE)

TARGETS = ("run", "daemon", "webserver")
LIMIT_S = 3_600
_FIRST_S, _APART_S = 30.0, (15.0, 150.0)
_BACK_S = 180
"""Seconds that the web server may take to start again during the backfill."""
_LEFT = ("REQUESTED", "CANCELING", "FAILING")
_BUILT = """
SELECT asset_key, "partition", count(*) FROM event_logs
WHERE dagster_event_type = 'ASSET_MATERIALIZATION' AND jsonb_path_exists(event::jsonb,
  '$.dagster_event.event_specific_data.materialization.metadata_entries[*]
   ? (@.label == "built_by_this_run" && @.entry_data.value == true)')
GROUP BY asset_key, "partition"
"""
"""Partitions that a run reported as built, and how often."""


@dataclass
class Report:
    """Kills, complete partitions at each kill, and backfills."""

    kills: Counter[str] = field(default_factory=Counter)
    complete_at_kills: list[int] = field(default_factory=list)
    backfills: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        kills = ", ".join(f"{count} of the {target}" for target, count in sorted(self.kills.items()))
        return (
            f"{self.kills.total()} kills ({kills}), when {self.complete_at_kills} partitions were complete; "
            f"{self.backfills} backfill(s), {self.seconds / 60:.1f} min"
        )


def backfill_killed_often(served: Deployment, database: Database, kills: int, chance: random.Random) -> Report:
    """Backfill all of the rehearsal with `kills` kills. Raises AssertionError if a partition is lost or built twice."""
    dataset = replace(REHEARSAL, root=str(served.home / "data"))
    report, started = Report(), time.monotonic()
    due = started + _FIRST_S
    kept: dict[str, tuple[int, int]] = {}
    backfill = ""
    while True:
        assert time.monotonic() - started < LIMIT_S, f"not complete after {LIMIT_S} s; {report}"
        if not backfill:
            backfill = served.page.backfill(dataset.name, list(PIPELINE))
            report.backfills += 1
        if report.kills.total() < kills and time.monotonic() > due:
            due = time.monotonic() + chance.uniform(*_APART_S)
            least = min(report.kills[target] for target in TARGETS)
            target = chance.choice([target for target in TARGETS if report.kills[target] == least])
            if _kill(served, target):
                report.kills[target] += 1
                again = _find_rebuilt(kept, found := _read_manifests(dataset))
                assert not again, f"complete and rebuilt: {again[:10]}"
                kept = found
                report.complete_at_kills.append(len(kept))
                _log(f"killed the {target}; {len(kept):,} partitions are complete")
        time.sleep(1)
        status = served.page.graphql(BACKFILL, id=backfill)["partitionBackfillOrError"]["status"]
        if status not in _LEFT:
            _log(f"backfill {backfill} ended as {status}")
            if status == "COMPLETED_SUCCESS":
                break
            backfill = ""  # launched again, as an operator does, it continues with the missing partitions
    report.seconds = time.monotonic() - started
    assert report.kills.total() == kills, f"the backfill ended before all kills: {report}"
    again = _find_rebuilt(kept, _read_manifests(dataset))
    assert not again, f"complete and rebuilt: {again[:10]}"
    built = database.execute(_BUILT)
    assert len(built) > 0.9 * dataset.layout.shards, f"only {len(built):,} partitions were reported as built"
    twice = [row for row in built if row[2] > 1]
    assert not twice, f"reported as built twice: {twice[:10]}"
    return report


def compare(dataset: Dataset, undisturbed: Dataset) -> None:
    """Check that all partitions are complete with the undisturbed content. Raises AssertionError."""
    ours, theirs = DatasetStatus(dataset), DatasetStatus(undisturbed)
    for stage in PIPELINE:
        found, expected = ours.states(stage), theirs.states(stage)
        incomplete = [(state.key, state.state, state.reason) for state in found if state.state != "complete"]
        assert not incomplete, f"{stage}: {len(incomplete)} are not complete: {incomplete[:5]}"
        for here, there in zip(found, expected, strict=True):
            assert here.manifest is not None
            assert there.manifest is not None, f"the undisturbed {stage} {here.key} is missing"
            assert here.manifest.counts == there.manifest.counts, f"{stage} {here.key} has different counts"
            if stage in (DEDUP_PARQUET, IMAGE_SHARDS, CLIP_EMBEDDINGS):
                assert here.manifest.content == there.manifest.content, f"{stage} {here.key} has different bytes"
    store = Store.of(dataset)
    assert store.local_root is not None
    left = [str(path) for path in (store.local_root / "staging").rglob("*") if path.is_file()]
    assert not left, f"orphaned staging files: {left[:10]}"


def _kill(served: Deployment, target: str) -> bool:
    """Kill with SIGKILL. Return whether there was a process to kill. A service is started again."""
    if target != "run":
        served.kill(target)
        time.sleep(2)
        served.start(target)
        _wait_for_web_server(served)
        return True
    run = next(_run_processes(served), None)
    if run is None:
        return False
    os.kill(run.pid, signal.SIGKILL)
    return True


def _run_processes(served: Deployment) -> Iterator[psutil.Process]:
    """Yield the processes of runs, which a code server has spawned, without their own children."""
    for child in psutil.Process(served.processes["code_rehearsal"].pid).children(recursive=True):
        try:
            if "spawn_main" in " ".join(child.cmdline()):
                yield child
        except psutil.Error:
            continue


def _wait_for_web_server(served: Deployment) -> None:
    ends = time.monotonic() + _BACK_S
    while REHEARSAL.name not in served.page.loaded()[0]:
        assert time.monotonic() < ends, f"the web server did not start again within {_BACK_S} s"
        time.sleep(0.5)


def _read_manifests(dataset: Dataset) -> dict[str, tuple[int, int]]:
    """Return inode and time of each manifest's file, by asset and key."""
    store = Store.of(dataset)
    found = {}
    for stage in (DEDUP_PARQUET, IMAGE_SHARDS, CLIP_EMBEDDINGS, KNN_INDICES):
        folder = store.local_path(f"manifests/{stage}")
        assert folder is not None
        if folder.exists():
            for entry in os.scandir(folder):
                if entry.name.endswith(".json") and not entry.name.startswith("."):
                    stat = entry.stat()
                    found[f"{stage}/{entry.name}"] = (stat.st_ino, stat.st_mtime_ns)
    return found


def _find_rebuilt(before: dict[str, tuple[int, int]], now: dict[str, tuple[int, int]]) -> list[str]:
    return sorted(name for name, file in before.items() if now.get(name) != file)


def _log(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--undisturbed", type=Path, required=True, help="home of an undisturbed rehearsal")
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    undisturbed = replace(REHEARSAL, root=str(options.undisturbed.absolute() / "data"))
    missing = [
        state.key for stage in PIPELINE for state in DatasetStatus(undisturbed).states(stage) if not state.manifest
    ]
    if missing:
        sys.exit(f"{options.undisturbed} lacks {len(missing):,} partitions. Build it with bench/graph.py --keep.")
    _log(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="laion-assets-kills-") as folder, postgres() as database:
        home = Path(folder)
        with deployment(home, database) as served:
            report = backfill_killed_often(served, database, options.kills, random.Random(seed))
        compare(replace(REHEARSAL, root=str(home / "data")), undisturbed)
    print(f"all partitions complete with the undisturbed content, none built twice: {report}")


if __name__ == "__main__":
    main()
