"""Several embedding files at the same time, in processes: the bytes of one process, one error per failed file."""

import functools
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from laion_assets.dataset.dataset import SAMPLE_MODEL, Dataset
from laion_assets.dataset.layout import EmbeddingNumber
from laion_assets.errors import EmbeddingError, IncompleteError, ModelError, SettingError
from laion_assets.models.clip_model import ClipModel
from laion_assets.models.loading import load_model
from laion_assets.models.weights import weights_identity
from laion_assets.stages.clip_embeddings.build import build_embedding_file
from laion_assets.stages.clip_embeddings.build_files import build_embedding_files
from laion_assets.stages.clip_embeddings.distribution.task import EmbeddingTask, EncodedGroup
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS, ClipEmbeddings
from laion_assets.stages.clip_embeddings.settings import EmbeddingSettings
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.store.manifest import Manifest, disagreement
from laion_assets.store.store import Store
from laion_assets_tests.conftest import TOP
from laion_assets_tests.stages.clip_embeddings.small_dataset import (
    LAYOUT,
    ROWS,
    commit_shard,
    commit_shards,
    small_dataset,
)

TWO = EmbeddingSettings(batch_size=8, decode_threads=1, cpu_threads=1, devices=("cpu", "cpu"))
"""Two processes on the CPU, each with one thread of torch."""
ONE = replace(TWO, devices=(), device="cpu")
"""The same settings in the run's own process."""


def dataset_in(root: Path, settings: EmbeddingSettings) -> Dataset:
    """The small dataset with the sample's model, which every process can load."""
    return replace(small_dataset(root), model=SAMPLE_MODEL, embeddings=settings)


def contents(dataset: Dataset) -> dict[str, str]:
    """Return the sha256 of each committed file, after the files were verified."""
    handle = ClipEmbeddings.of(dataset, range(LAYOUT.embedding_files))
    manifests = list(handle.manifests())
    assert all(disagreement(handle.store, manifest, hashes=True) is None for manifest in manifests)
    return {entry.path: entry.sha256 for manifest in manifests for entry in manifest.files}


@functools.cache
def sample_model() -> ClipModel:
    """The sample's model with one thread of torch."""
    return load_model(SAMPLE_MODEL, device="cpu", cpu_threads=1)


def build_in_one_process(root: Path) -> Dataset:
    """Build the files one after another, in this process."""
    dataset = dataset_in(root, ONE)
    commit_shards(dataset)
    build_embedding_files(dataset, range(2), sample_model, str)
    return dataset


def no_model() -> Any:
    raise AssertionError("the run's own process loads no model")


def test_two_processes_write_the_bytes_of_one(tmp_path: Path) -> None:
    expected = contents(build_in_one_process(tmp_path / "one"))
    dataset = dataset_in(tmp_path / "two", TWO)
    commit_shards(dataset)
    committed: list[tuple[int, Manifest]] = []
    logged: list[str] = []
    build_embedding_files(dataset, range(2), no_model, logged.append, lambda *each: committed.append(each))
    assert sorted(number for number, _ in committed) == [0, 1]
    assert contents(dataset) == expected
    assert len(expected) == 6
    progress = [line for line in logged if "shards (" in line]
    last = progress[-1]
    assert sum("100 %" in line for line in progress) == 1
    assert last.startswith("4/4 shards (100 %), ")
    assert "samples/s" in last
    assert last.endswith("2 of 2 files")
    assert sum(" rows on cpu, " in line for line in logged) == 2
    logged.clear()
    build_embedding_files(dataset, range(2), no_model, logged.append)
    assert sum("already complete" in line for line in logged) == 2


@pytest.mark.gpu
def test_two_gpus_write_the_bytes_of_one(tmp_path: Path) -> None:
    found = []
    for devices in (("cuda:0",), ("cuda:0", "cuda:1"), ("cuda:1",)):
        dataset = dataset_in(tmp_path / "-".join(devices), replace(TWO, devices=devices))
        commit_shards(dataset)
        build_embedding_files(dataset, range(2), no_model, str)
        found.append(contents(dataset))
    assert found[0] == found[1] == found[2]


def test_a_failed_file_is_named_with_its_cause_and_the_other_one_is_kept(tmp_path: Path) -> None:
    """The second file is complete already, so that no process loads a model."""
    dataset = dataset_in(tmp_path, TWO)
    commit_shards(dataset)
    build_embedding_file(dataset, Store.of(dataset), EmbeddingNumber(1), sample_model(), str)
    store = Store.of(dataset)
    store.delete(ImageShards.path(LAYOUT, 1, ".tar"))
    committed: list[int] = []
    with pytest.raises(EmbeddingError, match=r"1 of 2 embedding files of small failed.*: 0: .*00001\.tar") as raised:
        build_embedding_files(dataset, range(2), no_model, str, lambda number, _: committed.append(number))
    assert "Run the same partitions again" in str(raised.value)
    assert committed == [1]


def test_a_failure_that_other_files_would_share_ends_the_run(tmp_path: Path) -> None:
    dataset = dataset_in(tmp_path, replace(TWO, devices=("cpu",)))
    dataset = replace(dataset, model="open_clip:no-such-architecture/no-such-tag")
    commit_shards(dataset)
    logged: list[str] = []
    with pytest.raises(EmbeddingError, match=r"clip_embeddings 0 of small was not built.*cannot be loaded"):
        build_embedding_files(dataset, range(2), no_model, logged.append)
    assert not any("1/" in line or "failed" in line for line in logged)


def test_a_task_refuses_other_weights_than_the_drivers_and_a_missing_root(tmp_path: Path) -> None:
    dataset = dataset_in(tmp_path / "here", TWO)
    commit_shards(dataset)
    other = EmbeddingTask(dataset, EmbeddingNumber(0), "sample-clip@0000", host="node-7")
    with pytest.raises(ModelError, match=r"weights of sample-clip on node-7 differ from the driver's"):
        other.run(lambda message: None)
    elsewhere = EmbeddingTask(
        replace(dataset, root=str(tmp_path / "not-mounted")), EmbeddingNumber(0), "", host="node-7"
    )
    with pytest.raises(SettingError, match=r"not-mounted.* does not exist on node-7.*shared disk"):
        elsewhere.run(lambda message: None)


def test_a_task_sends_every_group_and_names_missing_shards(tmp_path: Path) -> None:
    dataset = dataset_in(tmp_path, TWO)
    commit_shard(dataset, 0, ROWS[0])
    task = EmbeddingTask(dataset, EmbeddingNumber(0), weights_identity(SAMPLE_MODEL))
    with pytest.raises(IncompleteError, match="00001"):
        task.run(lambda message: None)
    commit_shard(dataset, 1, ROWS[1])
    sent: list[Any] = []
    outcome = task.run(sent.append)
    assert [message for message in sent if isinstance(message, EncodedGroup)] == [
        EncodedGroup(1, ROWS[0]), EncodedGroup(1, ROWS[1])
    ]  # fmt: skip
    assert (outcome.was_built, outcome.place, outcome.manifest.counts.rows_out) == (True, "cpu", ROWS[0] + ROWS[1])


INTERRUPTED = """
import pickle, sys, time
from laion_assets.stages.clip_embeddings.build_files import build_embedding_files
dataset = pickle.load(open(sys.argv[1], "rb"))
build_embedding_files(dataset, range(2), None, lambda line: print(line, flush=True))
"""


def test_ctrl_c_ends_the_processes_and_leaves_a_dataset_that_the_next_run_completes(tmp_path: Path) -> None:
    dataset = dataset_in(tmp_path, TWO)
    for shard in range(LAYOUT.shards):
        commit_shard(dataset, shard, 50)
    (tmp_path / "task").write_bytes(pickle.dumps(dataset))
    command = [sys.executable, "-c", textwrap.dedent(INTERRUPTED), str(tmp_path / "task")]
    with (tmp_path / "errors").open("w") as errors:
        run = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, "PYTHONPATH": str(TOP)}
        )
    assert run.stdout is not None
    while "shards (" not in run.stdout.readline():
        assert run.poll() is None, (tmp_path / "errors").read_text()
    workers = psutil.Process(run.pid).children(recursive=True)
    assert len(workers) == 2
    run.send_signal(signal.SIGINT)
    started = time.monotonic()
    assert run.wait(20) != 0
    assert psutil.wait_procs(workers, 5)[1] == []
    assert time.monotonic() - started < 10
    assert "KeyboardInterrupt" in (tmp_path / "errors").read_text()
    build_embedding_files(replace(dataset, embeddings=ONE), range(2), sample_model, str)
    assert len(contents(dataset)) == 6
    assert Store.of(dataset).names(f"staging/{CLIP_EMBEDDINGS}") == []
