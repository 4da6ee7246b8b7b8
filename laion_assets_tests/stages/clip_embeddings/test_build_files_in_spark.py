"""Embedding files in a real Spark: the bytes of one process, GPU addresses, killed executors, missing packages."""

import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import EmbeddingError
from laion_assets.stages.clip_embeddings.build_files import build_embedding_files
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.stages.status import DatasetStatus
from laion_assets.store.store import Store
from laion_assets_tests.spark_cluster import Cluster, environment, standalone_cluster
from laion_assets_tests.stages.clip_embeddings.small_dataset import LAYOUT, commit_shard, commit_shards
from laion_assets_tests.stages.clip_embeddings.test_build_files import (
    ONE,
    build_in_one_process,
    contents,
    dataset_in,
    no_model,
    sample_model,
)

IN_SPARK = replace(ONE, device="auto", distributor="spark")
GPU_CONF = {"spark.executor.resource.gpu.amount": "2", "spark.task.resource.gpu.amount": "1"}
DRIVER = """
import json, pickle, sys
from laion_assets.errors import LaionAssetsError
from laion_assets.orchestration.resources.spark import SparkResource, end_jvm
from laion_assets.stages.clip_embeddings.build_files import build_embedding_files
dataset = pickle.load(open(sys.argv[2], "rb"))
spark = SparkResource(master=sys.argv[1], driver_memory="512m", conf=json.loads(sys.argv[3]))
log = lambda line: print("logged", line, flush=True)
on_commit = lambda number, manifest: print("committed", number, flush=True)
try:
    build_embedding_files(dataset, range(2), None, log, on_commit, spark.session)
except LaionAssetsError as error:
    print("failed", type(error).__name__, error, flush=True)
end_jvm()
"""


@pytest.fixture(scope="module")
def gpu_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of one worker with two cores and the GPU addresses 0 and 1."""
    with standalone_cluster(tmp_path_factory.mktemp("gpus"), workers=1, cores=2, gpus=2) as cluster:
        yield cluster


def start(cluster: Cluster, dataset: Dataset, folder: Path, script: str = DRIVER, **conf: str) -> subprocess.Popen[str]:
    """Start a driver that builds the dataset's two files; its lines are on stdout, the rest in `folder`/errors."""
    (folder / "task").write_bytes(pickle.dumps(dataset))
    command = cluster.command(script, str(folder / "task"), json.dumps({**cluster.conf, **conf}))
    with (folder / "errors").open("w") as errors:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment())


def run(cluster: Cluster, dataset: Dataset, folder: Path, **conf: str) -> list[str]:
    """Run such a driver to its end and return its lines."""
    driver = start(cluster, dataset, folder, **conf)
    output, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, (folder / "errors").read_text()[-3_000:]
    return output.splitlines()


def test_files_built_in_spark_equal_those_of_one_process(spark: Any, tmp_path: Path) -> None:
    expected = contents(build_in_one_process(tmp_path / "one"))
    dataset = dataset_in(tmp_path / "spark", IN_SPARK)
    commit_shards(dataset)
    logged: list[str] = []
    committed: list[int] = []
    build_embedding_files(dataset, range(2), no_model, logged.append, lambda n, _: committed.append(n), lambda: spark)
    assert sorted(committed) == [0, 1]
    assert contents(dataset) == expected
    assert "spark.task.resource.gpu.amount is not set" in logged[0]
    progress = [line for line in logged if "shards (" in line]
    assert [line.split()[0] for line in progress] == ["2/4", "4/4"]
    assert all("samples/s" in line for line in progress)
    assert "left, 1 of 2 files" in progress[0]
    assert sum(f"on cpu of {os.uname().nodename}, " in line for line in logged) == 2
    Store.of(dataset).delete(ImageShards.path(LAYOUT, 1, ".tar"))
    with pytest.raises(EmbeddingError, match=r"1 of 2 embedding files of small failed.*: 0 \(on .*00001\.tar"):
        build_embedding_files(dataset, range(2), no_model, str, spark=lambda: spark)


@pytest.mark.cluster
def test_files_built_while_an_executor_is_killed_equal_those_of_one_process(
    spark_cluster: Cluster, tmp_path: Path
) -> None:
    expected = contents(build_in_one_process(tmp_path / "one"))
    dataset = dataset_in(tmp_path / "cluster", IN_SPARK)
    commit_shards(dataset)
    driver = start(spark_cluster, dataset, tmp_path)
    while not (begun := Store.of(dataset).names(f"staging/{CLIP_EMBEDDINGS}")) and driver.poll() is None:
        time.sleep(0.002)
    killed = [each for each in spark_cluster.executors() for each in (*each.children(recursive=True), each)]
    for process in killed:
        process.kill()
    missing = [key for key in begun if not DatasetStatus(dataset).state(CLIP_EMBEDDINGS, int(key)).is_complete]
    output, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, (tmp_path / "errors").read_text()[-3_000:]
    assert killed
    assert missing, "every file was committed before the executors were killed"
    assert sorted(line for line in output.splitlines() if line.startswith("committed")) == [
        "committed 0",
        "committed 1",
    ]
    assert contents(dataset) == expected
    assert any("2 of 2 files" in line for line in output.splitlines())


PROBE = """
import json, os, sys, time
from laion_assets.orchestration.resources.spark import SparkResource, end_jvm
from laion_assets.stages.clip_embeddings.distribution import devices
session = SparkResource(master=sys.argv[1], driver_memory="512m", conf=json.loads(sys.argv[2])).session()
def where(numbers):
    started = time.time()
    time.sleep(0.5)
    device = devices.choose_spark_device("auto", devices.read_gpu_addresses())
    yield device, devices.read_task_cores(), started, time.time()
print(json.dumps(session.sparkContext.parallelize(range(6), 6).mapPartitions(where).collect()))
end_jvm()
"""


@pytest.mark.cluster
def test_spark_assigns_a_gpu_to_one_task_at_a_time(gpu_cluster: Cluster) -> None:
    conf = {**gpu_cluster.conf, "spark.executor.cores": "2", **GPU_CONF}
    done = gpu_cluster.run(PROBE, json.dumps(conf))
    assert done.returncode == 0, done.stderr[-3_000:]
    tasks = json.loads(done.stdout.splitlines()[-1])
    assert len(tasks) == 6
    assert {(device, cores) for device, cores, _, _ in tasks} == {("cuda:0", 1), ("cuda:1", 1)}
    for device in ("cuda:0", "cuda:1"):
        times = sorted((started, ended) for place, _, started, ended in tasks if place == device)
        assert all(ended <= started for (_, ended), (started, _) in itertools.pairwise(times))


@pytest.mark.cluster
def test_files_are_built_on_a_cpu_where_spark_schedules_gpus(gpu_cluster: Cluster, tmp_path: Path) -> None:
    dataset = dataset_in(tmp_path / "data", replace(IN_SPARK, device="cpu"))
    commit_shards(dataset)
    lines = run(gpu_cluster, dataset, tmp_path, **{"spark.executor.cores": "2", **GPU_CONF})
    assert sorted(line for line in lines if line.startswith("committed")) == ["committed 0", "committed 1"]
    assert not any("gpu.amount is not set" in line for line in lines)
    assert len(contents(dataset)) == 6


@pytest.mark.cluster
def test_a_task_uses_the_gpu_that_spark_assigned_and_a_missing_one_is_named(
    gpu_cluster: Cluster, tmp_path: Path
) -> None:
    """The discovery script reports GPUs that the machine does not have."""
    dataset = dataset_in(tmp_path / "data", IN_SPARK)
    commit_shards(dataset)
    lines = run(gpu_cluster, dataset, tmp_path, **{"spark.executor.cores": "2", **GPU_CONF})
    failed = [line for line in lines if line.startswith("failed")]
    assert len(failed) == 1
    assert f"(on {os.uname().nodename}) of small was not built" in failed[0]
    assert "The device 'cuda:" in failed[0]
    assert "is not available" in failed[0]


@pytest.mark.cluster
def test_the_log_says_that_no_executor_has_the_gpus_and_ctrl_c_ends_the_wait(
    gpu_cluster: Cluster, tmp_path: Path
) -> None:
    dataset = dataset_in(tmp_path / "data", IN_SPARK)
    commit_shards(dataset)
    impatient = DRIVER.replace(
        "try:", "from laion_assets.workers import spark_tasks\nspark_tasks.IDLE_S = 2.0\ntry:", 1
    )
    conf = {"spark.executor.resource.gpu.amount": "3", "spark.task.resource.gpu.amount": "3"}
    driver = start(gpu_cluster, dataset, tmp_path, impatient, **conf)
    assert driver.stdout is not None
    while "logged no task is running: Spark waits for an executor of spark://" not in (
        line := driver.stdout.readline()
    ):
        assert line, (tmp_path / "errors").read_text()[-3_000:]
    driver.send_signal(signal.SIGINT)
    assert driver.wait(15) != 0


@pytest.mark.cluster
def test_executors_without_this_package_are_named(spark_cluster: Cluster, tmp_path: Path) -> None:
    dataset = dataset_in(tmp_path / "data", IN_SPARK)
    commit_shards(dataset)
    bare = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    conf = {"spark.executorEnv.PYTHONPATH": "", "spark.pyspark.python": str(bare)}
    (tmp_path / "task").write_bytes(pickle.dumps(dataset))
    command = spark_cluster.command(DRIVER, str(tmp_path / "task"), json.dumps({**spark_cluster.conf, **conf}))
    variables = {name: value for name, value in environment().items() if name != "PYSPARK_PYTHON"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=variables)
    assert "failed SparkError The Python of Spark's executors cannot import laion_assets." in done.stdout, done.stderr


@pytest.mark.cluster
def test_ctrl_c_ends_the_driver_and_its_executors(spark_cluster: Cluster, tmp_path: Path) -> None:
    dataset = dataset_in(tmp_path / "data", IN_SPARK)
    for shard in range(LAYOUT.shards):
        commit_shard(dataset, shard, 50)
    driver = start(spark_cluster, dataset, tmp_path)
    while not Store.of(dataset).names(f"staging/{CLIP_EMBEDDINGS}") and driver.poll() is None:
        time.sleep(0.002)
    executors = [each for each in spark_cluster.executors() for each in (*each.children(recursive=True), each)]
    assert executors
    driver.send_signal(signal.SIGINT)
    started = time.monotonic()
    assert driver.wait(30) != 0
    assert time.monotonic() - started < 15
    assert psutil.wait_procs(executors, 30)[1] == []
    build_embedding_files(replace(dataset, embeddings=ONE), range(2), sample_model, str)
    assert len(contents(dataset)) == 6
