"""The graph through the running web server and daemon, with the requests of the Dagster UI."""

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.dataset import Dataset
from laion_assets.stages.status import DatasetStatus
from laion_assets_tests.end_to_end.conftest import TOP, Demo
from laion_assets_tests.end_to_end.dagster_ui import (
    CANCEL_BACKFILL,
    TERMINATE,
    DagsterPage,
    dagster_page,
    wait_until,
)
from laion_assets_tests.end_to_end.deployment import deployment

MADE = """query Made($keys: [String!]) { assetNodeOrError(assetKey: {path: ["sample", "image_shards"]}) {
  ... on AssetNode { assetMaterializations(partitions: $keys) {
    partition metadataEntries { label ... on BoolMetadataEntry { boolValue } } } } } }"""


@pytest.fixture(scope="module", params=["dev", pytest.param("deploy", marks=pytest.mark.postgres)])
def kind(request: pytest.FixtureRequest) -> str:
    """`laion-assets dev` over SQLite, and the services of `deploy/` over PostgreSQL."""
    return request.param


@pytest.fixture(scope="module")
def home(kind: str, tmp_path_factory: pytest.TempPathFactory, demo: Demo) -> Path:
    """A new Dagster instance over a copy of the demo's CSVs and parquet files, without the later stages."""
    folder = tmp_path_factory.mktemp(kind)
    (folder / "dagster_home").mkdir()
    shutil.copy(TOP / "dagster_home" / "dagster.yaml", folder / "dagster_home")
    books = [f"{book}/{asset}" for book in ("manifests", "leases") for asset in ("raw_csv", "dedup_parquet")]
    for name in ("raw_csv", "dedup_parquet", "dedup_rejects", *books):
        shutil.copytree(demo.root / "sample" / name, folder / "data" / "sample" / name)
    return folder


@pytest.fixture(scope="module")
def page(kind: str, home: Path, request: pytest.FixtureRequest) -> Iterator[DagsterPage]:
    if kind == "dev":
        with dagster_page(home) as opened:
            yield opened
    else:
        database = request.getfixturevalue("postgres_server").another()
        with deployment(home, database) as running:
            yield running.page


@pytest.fixture(scope="module")
def served(home: Path) -> Dataset:
    return replace(SAMPLE, root=str(home / "data"))


def of_a_run(command: list[str]) -> bool:
    """Whether a process is one that a run starts: a worker, the JVM, the sample's site, or the run itself."""
    line = " ".join(command)
    return any(
        sign in line
        for sign in ("sample.site", "laion_assets.workers.child", "java", "execute_run", "org.apache.spark")
    )


def complete(dataset: Dataset, asset: str) -> list[str]:
    return [state.key for state in DatasetStatus(dataset).states(asset) if state.state == "complete"]


def times_made(page: DagsterPage, keys: list[str]) -> Counter[str]:
    """Return the number of runs that reported a shard as built."""
    found = page.graphql(MADE, keys=keys)["assetNodeOrError"]["assetMaterializations"]
    made = {"label": "built_by_this_run", "boolValue": True}
    return Counter(one["partition"] for one in found if made in one["metadataEntries"])


def test_the_start_prints_the_address_and_no_warning(kind: str, home: Path, page: DagsterPage) -> None:
    if kind == "dev":
        lines = (home / "dagster-dev.log").read_text().splitlines()
        assert [line.partition(":")[0] for line in lines] == ["Dagster UI", "Dagster instance", "code locations"]
        assert page.url in lines[0]


def test_terminating_a_run_ends_its_workers_and_site_and_keeps_finished_shards(
    page: DagsterPage, served: Dataset
) -> None:
    run_id = page.run("sample", "image_shards", "00000", "00023")
    wait_until(lambda: complete(served, "image_shards"), 120)
    assert page.descendants(of_a_run)
    page.graphql(TERMINATE, id=run_id)
    wait_until(lambda: not page.descendants(of_a_run), 10)
    assert page.wait_for_run(run_id, 30) == "CANCELED"
    assert 0 < len(complete(served, "image_shards")) < 24


def test_a_cancelled_backfill_ends_its_run_and_frees_its_pool(page: DagsterPage, served: Dataset) -> None:
    before = complete(served, "image_shards")
    backfill_id = page.backfill("sample", ["image_shards"])
    wait_until(lambda: len(complete(served, "image_shards")) > len(before), 120)
    page.graphql(CANCEL_BACKFILL, id=backfill_id)
    assert page.wait_for_backfill(backfill_id, 120) == "CANCELED"
    wait_until(lambda: not page.descendants(of_a_run), 10)
    kept = complete(served, "image_shards")
    assert len(kept) < 24
    assert page.wait_for_run(page.run("sample", "image_shards", kept[0], kept[0]), 120) == "SUCCESS"


def test_a_terminated_spark_run_leaves_no_jvm(page: DagsterPage, served: Dataset) -> None:
    (Path(served.root) / "sample" / "manifests" / "dedup_parquet" / "00.json").unlink()
    run_id = page.run("sample", "dedup_parquet", "00", "00")
    wait_until(lambda: page.descendants(lambda command: "java" in command[0] if command else False), 120, 0.1)
    page.graphql(TERMINATE, id=run_id)
    wait_until(lambda: not page.descendants(of_a_run), 10)
    assert page.wait_for_run(run_id, 30) == "CANCELED"


def test_the_graph_is_backfilled_from_the_page_by_two_at_once(page: DagsterPage, served: Dataset) -> None:
    stages = ["dedup_parquet", "image_shards", "clip_embeddings", "knn_indices"]
    for backfill_id in [page.backfill("sample", stages), page.backfill("sample", stages)]:
        assert page.wait_for_backfill(backfill_id, 540) == "COMPLETED_SUCCESS"
    found = {
        asset: len(complete(served, asset))
        for asset in ("raw_csv", "dedup_parquet", "image_shards", "clip_embeddings", "knn_indices")
    }
    assert found == {"raw_csv": 1, "dedup_parquet": 4, "image_shards": 24, "clip_embeddings": 6, "knn_indices": 1}
    shards = complete(served, "image_shards")
    assert times_made(page, shards) == dict.fromkeys(shards, 1)


def test_one_partition_built_alone_has_the_same_bytes(page: DagsterPage, served: Dataset, demo: Demo) -> None:
    folder = Path(served.root) / "sample"
    (folder / "manifests" / "dedup_parquet" / "02.json").unlink()
    (folder / "dedup_parquet" / "02.parquet").unlink()
    assert page.wait_for_run(page.run("sample", "dedup_parquet", "02", "02"), 120) == "SUCCESS"
    for name in ("dedup_parquet/02.parquet", "dedup_rejects/02.parquet"):
        assert (folder / name).read_bytes() == (demo.root / "sample" / name).read_bytes()


def test_the_ui_and_the_demo_build_the_same_bytes(page: DagsterPage, served: Dataset, demo: Demo) -> None:
    for name in ("dedup_parquet/00.parquet", "image_shards/00004.tar", "image_shards/00004.parquet"):
        one, other = (root / "sample" / name for root in (Path(served.root), demo.root))
        assert one.read_bytes() == other.read_bytes(), name
