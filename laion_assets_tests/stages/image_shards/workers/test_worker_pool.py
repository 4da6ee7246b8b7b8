"""The pool: workers are reused, a failed shard does not fail others, and workers end with their parent."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from laion_assets.errors import ShardError
from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets.stages.image_shards.workers.outcome import ShardOutcome
from laion_assets.stages.image_shards.workers.pool import run_shards
from laion_assets.store.manifest import Counts, Manifest
from laion_assets_tests.stages.image_shards.images import jpeg
from laion_assets_tests.stages.image_shards.shards import committed_files, dataset_of
from laion_assets_tests.stages.image_shards.site import answer, running


@dataclass(frozen=True)
class Stub:
    """A task that performs its `act`. The settings of its outcome hold the worker's process id."""

    shard: int
    act: str = "work"

    @property
    def key(self):
        return f"{self.shard:05d}"

    def run(self):
        if self.act == "raise":
            raise ShardError(f"shard {self.key} cannot be built")
        if self.act == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.act == "exit":
            os._exit(3)
        if self.act == "sleep":
            time.sleep(60)
        counts = Counts(1, 1)
        return ShardOutcome(self.shard, Manifest("image_shards", self.key, (), counts, str(os.getpid()), ""))


def children():
    """Return the running worker processes. psutil cannot read the command line of a zombie."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "image_shards.workers.child" in " ".join(process.cmdline()):
                found.append(process)
    return found


def test_workers_are_reused_and_tasks_are_taken_on_demand():
    taken, done = [], []

    def tasks():
        for shard in range(12):
            taken.append(shard)
            yield Stub(shard)

    def on_done(outcome):
        done.append(outcome)
        assert len(taken) <= len(done) + 3

    assert run_shards(tasks(), 2, on_done) == []
    assert sorted(outcome.shard for outcome in done) == list(range(12))
    assert len({outcome.manifest.settings for outcome in done}) <= 2
    assert children() == []


def test_a_failing_or_crashing_shard_does_not_fail_others():
    acts = {1: "raise", 3: "crash", 5: "exit"}
    done = []
    failures = run_shards([Stub(shard, acts.get(shard, "work")) for shard in range(8)], 2, done.append)
    assert sorted(outcome.shard for outcome in done) == [0, 2, 4, 6, 7]
    assert [(failure.shard, failure.kind) for failure in failures] == [
        (1, "ShardError"), (3, "WorkerDied"), (5, "WorkerDied")
    ]  # fmt: skip
    assert failures[0].message == "shard 00001 cannot be built"
    assert "SIGSEGV" in failures[1].message
    assert "exit status 3" in failures[2].message
    assert children() == []


class Interrupt(BaseException):
    """An exception like Dagster's DagsterExecutionInterruptedError."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Interrupt, ValueError])
def test_an_interrupt_ends_the_workers_within_seconds(kind):
    def on_done(outcome):
        raise kind

    started = time.monotonic()
    with pytest.raises(kind):
        run_shards([Stub(0, "sleep"), Stub(1), Stub(2)], 2, on_done)
    assert time.monotonic() - started < 8
    assert children() == []


def test_no_tasks_start_no_workers():
    assert run_shards([], 2) == []


PARENT = """
from laion_assets.stages.image_shards.workers.pool import run_shards
from laion_assets_tests.stages.image_shards.workers.test_worker_pool import Stub
if __name__ == "__main__":
    run_shards([Stub(0), Stub(1, "sleep"), Stub(2, "sleep")], 2, lambda outcome: print("up", flush=True))
"""


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent(signal_number, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    assert parent.stdout.readline() == b"up\n"
    workers = psutil.Process(parent.pid).children(recursive=True)
    assert len(workers) >= 2
    parent.send_signal(signal_number)
    parent.wait(8)
    _, alive = psutil.wait_procs(workers, 5)
    assert not alive


STARTING = """
import time
from laion_assets.stages.image_shards.workers.pool import run_shards
from laion_assets_tests.stages.image_shards.workers.test_worker_pool import Stub
def tasks():
    yield Stub(0, "sleep")
    yield Stub(1, "sleep")
    print("up", flush=True)
if __name__ == "__main__":
    run_shards(tasks(), 2)
time.sleep(60)  # a worker that imported this module would wait here
"""


def test_starting_workers_end_with_their_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(STARTING)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout.readline() == b"up\n"
    workers = psutil.Process(parent.pid).children(recursive=True)
    assert len(workers) == 2
    parent.kill()
    parent.wait(8)
    _, alive = psutil.wait_procs(workers, 5)
    assert not alive


def test_a_killed_run_continues_to_the_same_files(tmp_path):
    pages = {f"/{n}.jpg": answer(jpeg(200 + n, 150, n)) for n in range(24)}
    rows = [(f"http://photos.test/{n}.jpg", f"image {n}") for n in range(24)]
    with running(pages) as site:
        whole = dataset_of(tmp_path / "whole", rows, site.resolve, shards=4)
        outcomes = []
        assert run_shards([ShardTask(whole, shard) for shard in range(4)], 1, outcomes.append) == []
        assert sum(outcome.successes for outcome in outcomes) == 24

        killed = dataset_of(tmp_path / "killed", rows, site.resolve, shards=4)

        def kill_a_worker(outcome):
            workers = children()
            if outcome.shard < 2 and len(workers) > 1:
                with contextlib.suppress(psutil.NoSuchProcess):
                    workers[-1].kill()

        failures = run_shards([ShardTask(killed, shard) for shard in range(4)], 2, kill_a_worker)
        assert all(failure.kind == "WorkerDied" for failure in failures)
        again = []
        assert run_shards([ShardTask(killed, shard) for shard in range(4)], 1, again.append) == []
        assert sum(not outcome.skipped for outcome in again) <= len(failures)
    assert committed_files(killed) == committed_files(whole)
