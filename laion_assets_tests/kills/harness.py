"""Kill runs that build shards with SIGKILL at random moments, and compare the result with an undisturbed run.

    python -m laion_assets_tests.kills.harness --kills 200 --seed 7     (make test-kills KILLS=200)

A round starts without shards, or with shards in which half of the rows failed, which are retried. Its runs are killed
(the whole process group, the parent alone, or one worker, whose run continues) and started again until one completes
all shards. Then every shard must be complete with the bytes of the undisturbed run, nothing may be staged, and no
process may be left.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import psutil

from laion_assets.dataset.dataset import Dataset
from laion_assets.progress import Progress
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets.stages.status import DatasetStatus
from laion_assets.store.manifest import disagreement
from laion_assets.store.store import Store
from laion_assets_tests.kills.held_victim import Victim, start_victim
from laion_assets_tests.stages.image_shards.images import jpeg
from laion_assets_tests.stages.image_shards.shards import IMAGES, committed_files, dataset_of
from laion_assets_tests.stages.image_shards.site import answer, running

SHARDS, ROWS_A_SHARD, WORKERS = 12, 6, 2
TARGETS = ("group", "group", "parent", "worker", "worker")
END_S = 5.0
"""Seconds in which all processes of a killed run must end. Most end in milliseconds."""


class Pace(NamedTuple):
    """Duration in seconds of an undisturbed run's start and of its work after that.

    A quarter of the kills is at a random moment of the start, the others are during the work.
    """

    start_s: float
    work_s: float


@dataclass
class Report:
    """Kills by target and moment, rounds, runs, and the longest time that a process took to end."""

    kills: Counter[str] = field(default_factory=Counter)
    rounds: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    longest_end_s: float = 0.0

    def __str__(self) -> str:
        killed = ", ".join(f"{count} {target}" for target, count in sorted(self.kills.items()))
        rounds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.rounds.items()))
        return (
            f"{self.kills.total()} kills ({killed}) in {self.runs} runs and {self.rounds.total()} rounds ({rounds}): "
            "every round gave the undisturbed bytes; all processes of a killed or completed run ended within "
            f"{self.longest_end_s:.2f} s"
        )


def kill_often(
    kills: int, seed: int, folder: Path, deadline_s: float = 1e9, log: Callable[[str], None] = lambda line: None
) -> Report:
    """Kill runs `kills` times, or until the deadline, and check the result of each round. `log` gets progress lines.

    Raises AssertionError with seed and round.
    """
    report, chance, started = Report(), random.Random(seed), time.monotonic()
    rows = [f"/{n}.jpg" for n in range(SHARDS * ROWS_A_SHARD)]
    good = {path: answer(jpeg(90 + n % 40, 80 + n % 30, n)) for n, path in enumerate(rows)}
    bad = {path: answer(b"", "503 Service Unavailable") for path in rows[::2]}
    limits = replace(IMAGES.fetch, deadline_s=20.0, connect_timeout_s=10.0)
    images = replace(IMAGES, fetch=limits, processes=WORKERS, threads=2)
    with running(dict(good)) as site:
        urls = [(site.url(path), f"image {path}") for path in rows]
        undisturbed = dataset_of(folder / "undisturbed", urls, site.resolve, SHARDS, images)
        _build(undisturbed)
        fresh = dataset_of(folder / "fresh", urls, site.resolve, SHARDS, images)
        half = dataset_of(folder / "half", urls, site.resolve, SHARDS, images)
        site.pages |= bad
        _build(half)
        site.pages |= good
        work = replace(fresh, root=str(folder / "work"))
        progress = Progress(log, "kills", kills, "rounds", every_s=20)
        with start_victim(folder, work) as victim:
            paces = {}
            for kind, before in (("built", fresh), ("retried", half)):
                _copy_dataset(before, work)
                pace = paces[kind] = _measure_pace(victim, work, kind)
                log(f"undisturbed ({kind}): {pace.start_s:.2f} s to its first shard, {pace.work_s:.2f} s from there")
            while report.kills.total() < kills and time.monotonic() - started < deadline_s:
                kind, before = chance.choice([("built", fresh), ("retried", half)])
                _copy_dataset(before, work)
                try:
                    _run_round(victim, work, kind, kills, paces[kind], chance, report)
                    _check_result(work, undisturbed)
                except AssertionError as error:
                    where = f"seed {seed}, round {report.rounds.total()} ({kind}), {report.kills.total()} kills"
                    raise AssertionError(f"{where}: {error}") from error
                report.rounds[kind] += 1
                progress.add(report.kills.total() - progress.done, 1)
    return report


def _copy_dataset(before: Dataset, work: Dataset) -> None:
    shutil.rmtree(work.root, ignore_errors=True)
    shutil.copytree(before.root, work.root)


def _measure_pace(victim: Victim, work: Dataset, kind: str) -> Pace:
    began, started = time.time(), time.monotonic()
    victim.start(kind)
    status = victim.wait_for_status(60, lambda: _has_started_since(_staging_folder(work), began))
    assert status is None, f"an undisturbed run ended with {status} before it started a shard"
    begun = time.monotonic()
    assert victim.wait_for_status(120) == 0, "an undisturbed run failed"
    return Pace(begun - started, time.monotonic() - begun)


def _staging_folder(work: Dataset) -> Path:
    root = Store.of(work).local_root
    assert root is not None
    return root / "staging" / IMAGE_SHARDS


def _build(dataset: Dataset) -> None:
    for shard in range(SHARDS):
        ShardTask(dataset, shard).run()


def _run_round(
    victim: Victim, work: Dataset, kind: str, kills: int, pace: Pace, chance: random.Random, report: Report
) -> None:
    staging = _staging_folder(work)
    while True:
        report.runs += 1
        began = time.time()
        pid = victim.start(kind)
        status = None
        while status is None and report.kills.total() < kills:
            moment = chance.choice(("starting", "working", "working", "working"))
            if moment == "starting":
                status = victim.wait_for_status(chance.uniform(0, pace.start_s))
            else:
                status = victim.wait_for_status(60, lambda began=began: _has_started_since(staging, began))
                if status is None:
                    status = victim.wait_for_status(chance.uniform(0, pace.work_s))
            if status is None:
                target = chance.choice(TARGETS)
                if _kill(pid, target, chance):
                    report.kills[f"{target} {moment}"] += 1
                    if target != "worker":
                        status = victim.wait_for_status(END_S)
        if status is None:
            status = victim.wait_for_status(120)
        assert status is not None, "a run that was not killed did not end within 120 s"
        assert status in (0, 1, -signal.SIGKILL), f"a run ended with status {status}"
        killed = time.monotonic()
        left = _list_session(pid)
        while left and time.monotonic() - killed < END_S:
            time.sleep(0.02)
            left = _list_session(pid)
        assert not left, f"processes {left} still ran {END_S:g} s after their run"
        report.longest_end_s = max(report.longest_end_s, time.monotonic() - killed)
        if status == 0:
            return


def _has_started_since(staging: Path, moment: float) -> bool:
    """Whether a shard was started after `moment`."""
    with contextlib.suppress(FileNotFoundError):
        return staging.stat().st_mtime > moment
    return False


def _kill(pid: int, target: str, chance: random.Random) -> bool:
    """Kill with SIGKILL. Return whether there was a process to kill."""
    with contextlib.suppress(ProcessLookupError, psutil.Error):
        if target == "group":
            os.killpg(pid, signal.SIGKILL)
        elif target == "parent":
            os.kill(pid, signal.SIGKILL)
        else:
            workers = [each for each in psutil.Process(pid).children() if each.status() != psutil.STATUS_ZOMBIE]
            if not workers:
                return False
            chance.choice(workers).kill()
        return True
    return False


def _list_session(sid: int) -> list[int]:
    """Return the running processes of a session."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.getsid(pid) == sid and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


def _check_result(work: Dataset, undisturbed: Dataset) -> None:
    store = Store.of(work)
    assert store.local_root is not None
    left = [str(path) for path in (store.local_root / "staging").rglob("*") if path.is_file()]
    assert not left, f"orphaned staging files: {left}"
    foreign = [path.name for path in (store.local_root / IMAGE_SHARDS).iterdir() if path.name.startswith(".")]
    assert not foreign, f"orphaned files among the shards: {foreign}"
    here, there = committed_files(work), committed_files(undisturbed)
    different = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    assert not different, f"bytes differ from the undisturbed run: {different}"
    ours, theirs = DatasetStatus(work), DatasetStatus(undisturbed)
    for shard in range(SHARDS):
        state, expected = ours.state(IMAGE_SHARDS, shard), theirs.state(IMAGE_SHARDS, shard)
        assert (state.state, state.manifest is not None) == ("complete", True), f"shard {shard} is {state.state}"
        assert state.manifest is not None
        assert expected.manifest is not None
        problem = disagreement(store, state.manifest, hashes=True)
        assert problem is None, problem
        assert _read_facts(state.manifest.to_json()) == _read_facts(expected.manifest.to_json())


def _read_facts(manifest: bytes) -> dict[str, object]:
    """Return a manifest without times, requests and the stats file, which differ between runs."""
    facts = json.loads(manifest)
    for name in ("committed_at", "seconds"):
        del facts[name]
    facts["files"] = [one for one in facts["files"] if one["repeatable"]]
    facts["details"] = {name: facts["details"][name] for name in ("statuses", "original_sizes")}
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after the round that passes this time")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="laion-assets-kills-") as folder:
        print(kill_often(options.kills, seed, Path(folder), options.minutes * 60, lambda line: print(line, flush=True)))
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
