"""The pool: workers are reused, a failed task does not fail others, and workers end with their parent."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from laion_assets.errors import ShardError
from laion_assets.stages.image_shards.shard.outcome import ShardOutcome
from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets.store.manifest import Counts, Manifest
from laion_assets.workers.pool import run_tasks
from laion_assets_tests.stages.image_shards.images import jpeg
from laion_assets_tests.stages.image_shards.shards import committed_files, dataset_of
from laion_assets_tests.stages.image_shards.site import answer, running


@dataclass(frozen=True)
class Stub:
    """A task that performs its `act`. The settings of its outcome hold the worker's process id."""

    number: int
    act: str = "work"
    place: int = -1

    @property
    def key(self):
        return f"{self.number:05d}"

    def run(self, send):
        if self.act == "raise":
            raise ShardError(f"shard {self.key} cannot be built")
        if self.act == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.act == "exit":
            os._exit(3)
        if self.act == "sleep":
            time.sleep(60)
        if self.act == "send":
            send(f"{self.key} on {self.place}")
            time.sleep(0.3)
            send(os.getpid())
        counts = Counts(1, 1)
        return ShardOutcome(self.number, Manifest("image_shards", self.key, (), counts, str(os.getpid()), ""))


def children():
    """Return the running worker processes. psutil cannot read the command line of a zombie."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "laion_assets.workers.child" in " ".join(process.cmdline()):
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

    assert run_tasks(tasks(), 2, on_done) == []
    assert sorted(outcome.shard for outcome in done) == list(range(12))
    assert len({outcome.manifest.settings for outcome in done}) <= 2
    assert children() == []


def test_a_failing_or_crashing_shard_does_not_fail_others():
    acts = {1: "raise", 3: "crash", 5: "exit"}
    done = []
    failures = run_tasks([Stub(shard, acts.get(shard, "work")) for shard in range(8)], 2, done.append)
    assert sorted(outcome.shard for outcome in done) == [0, 2, 4, 6, 7]
    assert [(failure.number, failure.kind) for failure in failures] == [
        (1, "ShardError"), (3, "WorkerDied"), (5, "WorkerDied")
    ]  # fmt: skip
    assert failures[0].message == "shard 00001 cannot be built"
    assert "SIGSEGV" in failures[1].message
    assert "exit status 3" in failures[2].message
    assert children() == []


def test_a_task_sends_messages_and_knows_the_place_of_its_worker():
    """A worker that replaces a dead one has its place."""
    messages, done = [], []
    tasks = [Stub(0, "send"), Stub(1, "send"), Stub(2, "crash"), Stub(3, "send"), Stub(4, "send"), Stub(5, "send")]
    failures = run_tasks(
        tasks, 2, done.append,
        on_message=lambda number, message: messages.append((number, message)),
        assign=lambda task, place: replace(task, place=place),
    )  # fmt: skip
    assert [failure.number for failure in failures] == [2]
    assert sorted(outcome.shard for outcome in done) == [0, 1, 3, 4, 5]
    assert {number for number, _ in messages} == {0, 1, 3, 4, 5}
    assert {message[-1] for _, message in messages if isinstance(message, str)} == {"0", "1"}
    assert len({message for _, message in messages if isinstance(message, int)}) == 3
    assert all(str(number) in str(message) for number, message in messages if isinstance(message, str))


class Interrupt(BaseException):
    """An exception like Dagster's DagsterExecutionInterruptedError."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Interrupt, ValueError])
def test_an_interrupt_ends_the_workers_within_seconds(kind):
    def on_done(outcome):
        raise kind

    started = time.monotonic()
    with pytest.raises(kind):
        run_tasks([Stub(0, "sleep"), Stub(1), Stub(2)], 2, on_done)
    assert time.monotonic() - started < 8
    assert children() == []


def test_no_tasks_start_no_workers():
    assert run_tasks([], 2) == []


PARENT = """
from laion_assets.workers.pool import run_tasks
from laion_assets_tests.workers.test_worker_pool import Stub
if __name__ == "__main__":
    run_tasks([Stub(0), Stub(1, "sleep"), Stub(2, "sleep")], 2, lambda outcome: print("up", flush=True))
"""


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent(signal_number, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
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
from laion_assets.workers.pool import run_tasks
from laion_assets_tests.workers.test_worker_pool import Stub
def tasks():
    yield Stub(0, "sleep")
    yield Stub(1, "sleep")
    print("up", flush=True)
if __name__ == "__main__":
    run_tasks(tasks(), 2)
time.sleep(60)  # a worker that imported this module would wait here
"""


def test_starting_workers_end_with_their_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(STARTING)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
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
        assert run_tasks([ShardTask(whole, shard) for shard in range(4)], 1, outcomes.append) == []
        assert sum(outcome.successes for outcome in outcomes) == 24

        killed = dataset_of(tmp_path / "killed", rows, site.resolve, shards=4)

        def kill_a_worker(outcome):
            workers = children()
            if outcome.shard < 2 and len(workers) > 1:
                with contextlib.suppress(psutil.NoSuchProcess):
                    workers[-1].kill()

        failures = run_tasks([ShardTask(killed, shard) for shard in range(4)], 2, kill_a_worker)
        assert all(failure.kind == "WorkerDied" for failure in failures)
        again = []
        assert run_tasks([ShardTask(killed, shard) for shard in range(4)], 1, again.append) == []
        assert sum(not outcome.skipped for outcome in again) <= len(failures)
    assert committed_files(killed) == committed_files(whole)
