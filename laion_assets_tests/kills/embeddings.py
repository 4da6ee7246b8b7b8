"""Kill runs that build embedding files with SIGKILL at random moments, and compare with an undisturbed run.

    python -m laion_assets_tests.kills.embeddings --kills 50 --seed 7     (make test-kills)

A round starts without embedding files, or with complete files of which one has a changed shard. Its runs are killed at
random moments of an undisturbed run's duration and started again until one completes both files. Then npy and parquet
files must have the bytes of the undisturbed run, nothing may be staged, and no finished group may be left. Rows that
were encoded more than once are counted.
"""

import argparse
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

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets.stages.clip_embeddings.build import KINDS
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS, ClipEmbeddings
from laion_assets.stages.clip_embeddings.settings import EmbeddingSettings
from laion_assets.stages.status import DatasetStatus
from laion_assets.store.store import Store
from laion_assets_tests.kills.held_victim import Victim, start_victim
from laion_assets_tests.stages.clip_embeddings.small_dataset import commit_shard, make_jpeg, small_dataset

LAYOUT = Layout(parquet_files=1, shards=12, embedding_files=2, rows_per_shard=32)
"""Each shard is a group: the unit that a killed run does not encode again."""
ROWS = tuple(32 - shard % 5 for shard in range(LAYOUT.shards))
CHANGED = 8
"""The shard with other images in the rounds of the kind `changed`."""
GROUPS_IN_FLIGHT = 4
"""Groups that a kill may lose: one being encoded, one that is submitted to the writer, and two that wait for it."""
END_S = 120.0


@dataclass
class Report:
    """Kills by the kind of their round, rounds, runs, and the rows that were encoded again."""

    kills: Counter[str] = field(default_factory=Counter)
    rounds: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    rows: int = 0
    rows_again: int = 0
    most_again: int = 0
    """Most rows that a round encoded again."""

    def __str__(self) -> str:
        kills = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kills.items()))
        rounds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.rounds.items()))
        total = max(self.kills.total(), 1)
        return (
            f"{self.kills.total()} kills ({kills}) in {self.runs} runs and {self.rounds.total()} rounds ({rounds}): "
            f"every round gave the undisturbed npy and parquet files; of {self.rows:,} rows, {self.rows_again:,} were "
            f"encoded twice ({self.rows_again / max(self.rows, 1):.1%}), {self.rows_again / total:.1f} per kill, at "
            f"most {self.most_again:,} in a round"
        )


def kill_often(
    kills: int,
    seed: int,
    folder: Path,
    log: Callable[[str], None] = lambda line: None,
    kinds: tuple[str, ...] = ("built", "built", "built", "changed"),
) -> Report:
    """Kill runs `kills` times in rounds of these kinds, and check the result of each round.

    Raises AssertionError with seed and round.
    """
    report, chance = Report(), random.Random(seed)
    work = _dataset(folder / "work")
    starts: dict[str, Dataset] = {}
    undisturbed: dict[str, Dataset] = {}
    seconds: dict[str, float] = {}
    with start_victim(folder, work, "embedding_victim") as victim:
        for kind in sorted(set(kinds)):
            shards, undisturbed[kind] = _dataset(folder / f"{kind}-shards"), _dataset(folder / f"{kind}-undisturbed")
            _commit_shards(shards, is_changed=kind == "changed")
            _copy(shards, work)
            seconds[kind] = _run_undisturbed(victim)
            _copy(work, undisturbed[kind])
            starts[kind] = shards
        if "changed" in starts:
            starts["changed"] = _dataset(folder / "changed-start")
            _copy(undisturbed["built"], starts["changed"])
            _commit_changed_shard(starts["changed"])
            _copy(starts["changed"], work)
            seconds["changed"] = _run_undisturbed(victim)
        log(", ".join(f"undisturbed ({kind}): {duration:.2f} s" for kind, duration in seconds.items()))
        while report.kills.total() < kills:
            kind = chance.choice(kinds)
            _copy(starts[kind], work)
            (folder / "encoded").unlink(missing_ok=True)
            before = report.kills.total()
            try:
                _run_round(victim, kind, kills, seconds[kind], chance, report)
                _check_result(work, undisturbed[kind])
                _count_rows(folder / "encoded", kind, report.kills.total() - before, report)
            except AssertionError as error:
                where = f"seed {seed}, round {report.rounds.total()} ({kind}), {report.kills.total()} kills"
                raise AssertionError(f"{where}: {error}; see {folder / 'victim.log'}") from error
            report.rounds[kind] += 1
            log(f"{report.kills.total()} kills, {report.rounds.total()} rounds")
    return report


def _dataset(root: Path) -> Dataset:
    embeddings = EmbeddingSettings(batch_size=8, decode_threads=2, device="cpu")
    return replace(small_dataset(root), layout=LAYOUT, embeddings=embeddings)


def _commit_shards(dataset: Dataset, is_changed: bool) -> None:
    for shard, rows in enumerate(ROWS):
        if not (is_changed and shard == CHANGED):
            commit_shard(dataset, shard, rows)
    if is_changed:
        _commit_changed_shard(dataset)


def _commit_changed_shard(dataset: Dataset) -> None:
    commit_shard(dataset, CHANGED, ROWS[CHANGED], jpgs={row: make_jpeg(50_000 + row) for row in range(ROWS[CHANGED])})


def _copy(source: Dataset, target: Dataset) -> None:
    shutil.rmtree(target.root, ignore_errors=True)
    shutil.copytree(source.root, target.root)


def _run_undisturbed(victim: Victim) -> float:
    victim.start("build")  # returns when the victim's imports are done
    started = time.monotonic()
    assert victim.wait_for_status(END_S) == 0, "an undisturbed run failed"
    return time.monotonic() - started


def _run_round(victim: Victim, kind: str, kills: int, seconds: float, chance: random.Random, report: Report) -> None:
    while True:
        report.runs += 1
        pid = victim.start(kind)
        status = None
        if report.kills.total() < kills:
            status = victim.wait_for_status(chance.uniform(0, seconds))
            if status is None:
                os.kill(pid, signal.SIGKILL)
                status = victim.wait_for_status(END_S)
                report.kills[kind] += status == -signal.SIGKILL
        else:
            status = victim.wait_for_status(END_S)
        assert status is not None, f"a run did not end within {END_S:g} s"
        assert status in (0, -signal.SIGKILL), f"a run ended with status {status}"
        if status == 0:
            return


def _check_result(work: Dataset, undisturbed: Dataset) -> None:
    root, expected_root = Store.of(work).local_root, Store.of(undisturbed).local_root
    assert root is not None
    assert expected_root is not None
    left = [str(path) for folder in ("staging", "partial") for path in (root / folder).rglob("*") if path.is_file()]
    assert not left, f"orphaned files: {left}"
    ours, theirs = DatasetStatus(work), DatasetStatus(undisturbed)
    for embedding in LAYOUT.embedding_numbers:
        for kind in KINDS:
            path = ClipEmbeddings.path(LAYOUT, embedding, kind)
            assert (root / path).read_bytes() == (expected_root / path).read_bytes(), f"{path} has other bytes"
        state, expected = ours.state(CLIP_EMBEDDINGS, embedding), theirs.state(CLIP_EMBEDDINGS, embedding)
        assert state.state == "complete", f"file {embedding} is {state.state}: {state.reason}"
        assert state.manifest is not None
        assert expected.manifest is not None
        for name in ("counts", "content", "settings", "inputs"):
            assert getattr(state.manifest, name) == getattr(expected.manifest, name), f"file {embedding}: {name} differ"


def _count_rows(encoded: Path, kind: str, kills: int, report: Report) -> None:
    """Count the rows that the runs of a round encoded. Without kills, each is encoded once."""
    rows = sum(ROWS) if kind == "built" else ROWS[CHANGED]
    again = sum(map(int, encoded.read_text().split())) - rows
    limit = kills * GROUPS_IN_FLIGHT * max(ROWS)
    assert 0 <= again <= limit, f"{again} rows were encoded again after {kills} kills; at most {limit} may be"
    report.rows += rows
    report.rows_again += again
    report.most_again = max(report.most_again, again)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="laion-assets-kills-") as folder:
        print(kill_often(options.kills, seed, Path(folder), lambda line: print(line, flush=True)))
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
