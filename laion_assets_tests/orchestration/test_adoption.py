"""Adopted partitions are materialized in Dagster, are the input of the next stages, and are never rebuilt by a run."""

from pathlib import Path

import dagster as dg
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import AdoptionError
from laion_assets.orchestration.adoption import adopt
from laion_assets.orchestration.declaration import asset_key
from laion_assets.orchestration.instance import instance
from laion_assets.orchestration.runs import materialize
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS, ImageShards
from laion_assets.stages.knn_indices.handle import KNN_INDICES
from laion_assets.stages.statistics.handle import IMAGE_STATISTICS
from laion_assets.stages.status import DatasetStatus
from laion_assets_tests.stages.adopted_files import (
    ROWS,
    SHARDS,
    clip_retrieval_embeddings,
    empty_dataset,
    img2dataset_shards,
)

KEYS = {f"{shard:05d}" for shard in range(SHARDS)}


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster_home"))
    return empty_dataset(tmp_path / "data")


def latest(dataset: Dataset, asset: str, key: str) -> dg.AssetMaterialization:
    with instance() as opened:
        records = opened.fetch_materializations(
            dg.AssetRecordsFilter(asset_key(dataset, asset), asset_partitions=[key]), limit=1
        ).records
    found = records[0].asset_materialization
    assert found is not None
    return found


def materialized(dataset: Dataset, asset: str) -> set[str]:
    with instance() as opened:
        return set(opened.get_materialized_partitions(asset_key(dataset, asset)))


def test_adopted_partitions_are_materialized_with_their_counts_and_origin(dataset: Dataset) -> None:
    folder, _ = img2dataset_shards()
    adopt(dataset, IMAGE_SHARDS, folder)
    assert materialized(dataset, IMAGE_SHARDS) == KEYS
    event = latest(dataset, IMAGE_SHARDS, "00001")
    assert event.metadata["rows_in"].value == ROWS
    assert event.metadata["rows_out"].value == ROWS - 1
    assert "files of img2dataset in" in str(event.metadata["adopted"].value)
    assert "images_per_s" not in event.metadata
    assert event.tags
    assert ImageShards.of(dataset).manifest(1).content in event.tags.values()
    assert str(event.description).startswith("adopted from")


def test_next_stages_run_over_adopted_partitions(dataset: Dataset) -> None:
    adopt(dataset, IMAGE_SHARDS, img2dataset_shards()[0])
    before = list(ImageShards.of(dataset).manifests())
    reports = materialize(dataset, [IMAGE_SHARDS, IMAGE_STATISTICS, CLIP_EMBEDDINGS, KNN_INDICES])
    assert [report.ran for report in reports] == [0, 1, 1, 1]
    assert [report.rows_out for report in reports[1:]] == [SHARDS * ROWS, SHARDS * ROWS - 4, SHARDS * ROWS - 4]
    assert list(ImageShards.of(dataset).manifests()) == before
    assert all(state.is_complete for state in DatasetStatus(dataset).states(KNN_INDICES))


def test_index_is_built_over_adopted_embeddings(dataset: Dataset) -> None:
    adopt(dataset, IMAGE_SHARDS, img2dataset_shards()[0])
    adopt(dataset, CLIP_EMBEDDINGS, clip_retrieval_embeddings())
    assert materialized(dataset, CLIP_EMBEDDINGS) == {"0"}
    reports = materialize(dataset, [CLIP_EMBEDDINGS, KNN_INDICES])
    assert [report.ran for report in reports] == [0, 1]
    assert reports[1].rows_out == SHARDS * ROWS - 4


def test_partitions_that_dagster_lacks_are_reported_by_the_next_adoption(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt(dataset, IMAGE_SHARDS, img2dataset_shards()[0])
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "another_home"))
    assert materialized(dataset, IMAGE_SHARDS) == set()
    assert adopt(dataset, IMAGE_SHARDS, img2dataset_shards()[0]).adopted == []
    assert materialized(dataset, IMAGE_SHARDS) == KEYS


def test_stages_without_adoption_are_named(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(AdoptionError, match=r"dedup_parquet\. Choose from image_shards, clip_embeddings"):
        adopt(dataset, DEDUP_PARQUET, tmp_path)
