"""Every stage that keeps no row fails, and the stage that lost the rows is named."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.definitions import build_definitions
from laion_assets.errors import EmptyStageError, LaionAssetsError
from laion_assets.orchestration.resources.spark import SparkResource
from laion_assets.orchestration.runs import materialize_stage
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.kept_rows import require_rows
from laion_assets.stages.knn_indices.handle import KNN_INDICES
from laion_assets.stages.raw_csv.handle import RAW_CSV
from laion_assets.stages.registry import find_stage
from laion_assets.stages.statistics.handle import DATASET_STATISTICS
from laion_assets.stages.status import settings_digest
from laion_assets.store.manifest import Counts, Manifest, manifest_path
from laion_assets.store.store import Store
from laion_assets_tests.stages.dedup_parquet.tables import row, table

LOST = Counts(125, 0, {"http_404": 100, "dns_failure": 25})
KEPT = Counts(125, 100, {"http_404": 25})
NOTHING = Counts(0, 0)


def commit(dataset: Dataset, asset: str, counts: Counts, partitions: Iterable[int] | None = None) -> None:
    """Manifests without files of these partitions, of all if None."""
    handle, store = find_stage(asset).handle, Store.of(dataset)
    for number in handle.numbers(dataset.layout) if partitions is None else partitions:
        key = handle.key(dataset.layout, number)
        path = Path(store.local_path(manifest_path(asset, key)) or "")
        path.parent.mkdir(parents=True, exist_ok=True)
        manifest = Manifest(asset, key, (), counts, settings_digest(dataset, asset), "")
        path.write_bytes(manifest.to_json())


@pytest.mark.parametrize("asset", [DEDUP_PARQUET, IMAGE_SHARDS, CLIP_EMBEDDINGS, KNN_INDICES, DATASET_STATISTICS])
def test_a_stage_that_kept_no_row_is_named_with_its_reasons(dataset: Dataset, asset: str) -> None:
    commit(dataset, asset, LOST)
    rows = 125 * len(find_stage(asset).handle.numbers(dataset.layout))
    with pytest.raises(
        EmptyStageError, match=rf"sample/{asset} kept 0 of {rows:,} rows: [0-9,]+ http_404, .*allow_empty"
    ):
        require_rows(dataset, asset)
    require_rows(replace(dataset, allow_empty=True), asset)


def test_the_most_frequent_reasons_are_named(dataset: Dataset) -> None:
    reasons = {f"reason_{number}": number for number in range(1, 9)}
    commit(dataset, KNN_INDICES, Counts(36, 0, reasons))
    with pytest.raises(EmptyStageError, match=r"8 reason_8, 7 reason_7, .* 4 reason_4 and 3 more reasons"):
        require_rows(dataset, KNN_INDICES)


@pytest.mark.parametrize("lost", [[0], [3], range(1, 24)])
def test_empty_shards_are_valid_next_to_one_with_an_image(dataset: Dataset, lost: Iterable[int]) -> None:
    commit(dataset, IMAGE_SHARDS, KEPT)
    commit(dataset, IMAGE_SHARDS, LOST, lost)
    require_rows(dataset, IMAGE_SHARDS)


def test_the_first_shard_may_be_empty_and_the_second_too_is_the_stage(dataset: Dataset) -> None:
    commit(dataset, DEDUP_PARQUET, KEPT)
    commit(dataset, IMAGE_SHARDS, NOTHING, range(5))
    commit(dataset, IMAGE_SHARDS, LOST, [7])
    require_rows(dataset, IMAGE_SHARDS)
    commit(dataset, IMAGE_SHARDS, LOST, [9])
    with pytest.raises(EmptyStageError, match="image_shards kept 0 of 250 rows"):
        require_rows(dataset, IMAGE_SHARDS)


def test_a_stage_without_input_rows_names_the_stage_that_lost_them(dataset: Dataset) -> None:
    commit(dataset, RAW_CSV, Counts(32, 32))
    commit(dataset, DEDUP_PARQUET, LOST)
    for asset in (DATASET_STATISTICS, IMAGE_SHARDS, CLIP_EMBEDDINGS, KNN_INDICES):
        commit(dataset, asset, NOTHING)
        with pytest.raises(EmptyStageError, match="sample/dedup_parquet kept 0 of 500 rows: 400 http_404"):
            require_rows(dataset, asset)
    commit(dataset, DEDUP_PARQUET, NOTHING)
    with pytest.raises(EmptyStageError, match="sample/dedup_parquet found no rows in the files of raw_csv"):
        require_rows(dataset, KNN_INDICES)


@pytest.mark.parametrize("asset", [IMAGE_SHARDS, CLIP_EMBEDDINGS, KNN_INDICES])
def test_a_run_over_no_rows_names_the_stage_that_lost_them(dataset: Dataset, asset: str) -> None:
    commit(dataset, RAW_CSV, Counts(32, 32))
    commit(dataset, DEDUP_PARQUET, LOST)
    for after in (IMAGE_SHARDS, CLIP_EMBEDDINGS):
        commit(dataset, after, NOTHING)
    message = "sample/dedup_parquet kept 0 of 500 rows: 400 http_404, 100 dns_failure"
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(LaionAssetsError, match=message):
        materialize_stage(dataset, build_definitions(dataset), asset, instance)


def test_a_source_whose_rows_are_all_dropped_stops_at_the_first_stage(
    dataset: Dataset, tmp_path: Path, spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SparkResource, "session", lambda self: spark)
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "a.csv").write_bytes(table([row(URL="") for _ in range(30)]))
    dataset = replace(dataset, source=str(tmp_path / "csv"))
    definitions = build_definitions(dataset)
    with dg.DagsterInstance.ephemeral() as instance:
        materialize_stage(dataset, definitions, RAW_CSV, instance)
        for asset in (DEDUP_PARQUET, DEDUP_PARQUET, DATASET_STATISTICS, IMAGE_SHARDS):  # the second has nothing to do
            with pytest.raises(LaionAssetsError, match=r"sample/dedup_parquet kept 0 of 30 rows: 30 url_missing\."):
                materialize_stage(dataset, definitions, asset, instance)
        allowed = replace(dataset, allow_empty=True)
        definitions = build_definitions(allowed)
        for asset in (DEDUP_PARQUET, DATASET_STATISTICS):
            assert materialize_stage(allowed, definitions, asset, instance).rows_out == 0
