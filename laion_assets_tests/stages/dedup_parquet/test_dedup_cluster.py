"""dedup_parquet on a real standalone cluster and object store: the same bytes as in one process on a disk."""

import contextlib
import json
import os
import subprocess
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets.stages.dedup_parquet.build import build_dedup_parquet
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET, DedupParquet
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.store.manifest import Manifest, disagreement, read_manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import recover
from laion_assets_tests.spark_cluster import Cluster, environment
from laion_assets_tests.stages.dedup_parquet.tables import HEADER, publish_csvs, quiet
from laion_assets_tests.stages.dedup_parquet.test_dedup import messy_files

DRIVER = """
import json, sys
from dataclasses import replace
from laion_assets.store.store import Store
from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.layout import Layout
from laion_assets.stages.dedup_parquet.build import build_dedup_parquet
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.orchestration.resources.spark import SparkResource, end_jvm
layout = Layout(**json.loads(sys.argv[4]))
dataset = replace(SAMPLE, root=sys.argv[3], layout=layout, dedup=DedupSettings())
session = SparkResource(master=sys.argv[1], driver_memory="512m", conf=json.loads(sys.argv[2])).session()
build_dedup_parquet(session, dataset, Store.of(dataset), range(layout.parquet_files), print)
end_jvm()
"""
STORE_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "FSSPEC_S3_ENDPOINT_URL")
SMALL = Layout(parquet_files=3, shards=7, embedding_files=2, rows_per_shard=250)
LARGE = Layout(parquet_files=3, shards=24, embedding_files=2, rows_per_shard=10_000)


def arguments(cluster: Cluster, dataset: Dataset) -> list[str]:
    """Return the driver's arguments. The executors get the object store's address as environment variables."""
    told = {f"spark.executorEnv.{name}": os.environ[name] for name in STORE_VARIABLES if name in os.environ}
    layout = {name: getattr(dataset.layout, name) for name in dataset.layout.__dataclass_fields__}
    return [json.dumps({**cluster.conf, **told}), dataset.root, json.dumps(layout)]


def manifests(dataset: Dataset) -> list[Manifest | None]:
    """Return the manifests of the stage, after their files were verified."""
    store, layout = Store.of(dataset), dataset.layout
    found = [read_manifest(store, DEDUP_PARQUET, layout.parquet_key(each)) for each in range(layout.parquet_files)]
    assert all(manifest and disagreement(store, manifest, hashes=True) is None for manifest in found)
    return found


def contents(dataset: Dataset) -> dict[str, str]:
    """Return the sha256 of each committed file."""
    return {entry.path: entry.sha256 for manifest in manifests(dataset) if manifest for entry in manifest.files}


def test_object_store_gets_the_same_bytes_as_a_disk(
    dataset: Dataset, spark: Any, object_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in STORE_VARIABLES:
        monkeypatch.setitem(spark.sparkContext.environment, name, os.environ[name])
    here = replace(dataset, layout=SMALL, dedup=DedupSettings())
    there = replace(here, root=f"{object_store}/local")
    for each in (here, there):
        publish_csvs(each, messy_files())
        build_dedup_parquet(spark, each, Store.of(each), range(3), quiet)
    assert len(contents(there)) == 6
    assert contents(there) == contents(here)


@pytest.mark.cluster
def test_cluster_on_an_object_store_writes_the_same_bytes_as_one_process_on_a_disk(
    dataset: Dataset, spark: Any, spark_cluster: Cluster, object_store: str
) -> None:
    here = replace(dataset, layout=SMALL, dedup=DedupSettings())
    publish_csvs(here, messy_files())
    build_dedup_parquet(spark, here, Store.of(here), range(3), quiet)
    there = replace(here, root=f"{object_store}/cluster")
    publish_csvs(there, messy_files())
    done = spark_cluster.run(DRIVER, *arguments(spark_cluster, there), timeout_s=300)
    assert done.returncode == 0, done.stderr
    assert len(contents(there)) == 6
    assert contents(there) == contents(here)
    assert DedupParquet.of(there).shard_rows(3).equals(DedupParquet.of(here).shard_rows(3))


@pytest.mark.cluster
def test_killed_executor_leaves_no_manifest_and_no_duplicates(
    dataset: Dataset, spark: Any, spark_cluster: Cluster, tmp_path: Path
) -> None:
    lines = [f"{n}|https://h{n % 50}.test/{n}.jpg|caption {n} of many|20|10|?|UNLIKELY|0.3" for n in range(120_000)]
    parts = [lines[start : start + 20_000] for start in range(0, len(lines), 20_000)]
    files = {f"{number}.csv": HEADER + "\n".join(part).encode() for number, part in enumerate(parts)}
    here = replace(dataset, layout=LARGE, dedup=DedupSettings())
    there = replace(here, root=str(tmp_path / "cluster"))
    publish_csvs(there, files)
    store = Store.of(there)
    root = store.local_root
    assert root is not None
    driver = subprocess.Popen(
        spark_cluster.command(DRIVER, *arguments(spark_cluster, there)), env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    while not (begun := list(root.glob("staging/dedup_parquet/*/*/*.parquet"))) and driver.poll() is None:
        time.sleep(0.002)
    killed = [each for each in spark_cluster.executors() for each in (*each.children(recursive=True), each)]
    for process in killed:
        with contextlib.suppress(psutil.Error):
            process.kill()
    interrupted = {
        path.parts[-3] for path in begun if not (root / f"manifests/dedup_parquet/{path.parts[-3]}.json").exists()
    }
    output, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, output
    assert killed, "the executors had ended before they were killed"
    assert interrupted, "every partition was committed before the executors were killed"
    publish_csvs(here, files)
    build_dedup_parquet(spark, here, Store.of(here), range(3), quiet)
    assert contents(there) == contents(here)
    uids: Counter[str] = Counter()
    for number in range(3):
        recover(store, DEDUP_PARQUET, LARGE.parquet_key(number))
        uids.update(pq.read_table(store.address(DedupParquet.path(LARGE, number)), columns=["uid"])["uid"].to_pylist())
    assert len(uids) == uids.total() == len(lines)
    assert not [path for path in root.glob("staging/dedup_parquet/*/*") if path.is_file() or any(path.iterdir())]
