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
from laion_assets.stages.raw_csv.build import fetch_raw_csv
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
    require_rows(replace(dataset, min_kept_share=0.0), IMAGE_SHARDS)


def test_a_stage_that_kept_less_than_the_share_is_named_with_its_reasons(dataset: Dataset) -> None:
    commit(dataset, DEDUP_PARQUET, KEPT)
    commit(dataset, IMAGE_SHARDS, Counts(100, 4, {"blocked_address": 90, "http_404": 6}))
    message = (
        r"sample/image_shards kept 96 of 2,400 rows, and min_kept_share is 0\.1: 2,160 blocked_address, 144 http_404\. "
        r"To allow a host of your own network, set resolve = .* allow_networks = .* in \[sample\] .* "
        r"materialize --dataset sample image_shards --retry failed\. .* lower min_kept_share"
    )
    with pytest.raises(EmptyStageError, match=message):
        require_rows(dataset, IMAGE_SHARDS, (0, 1))
    for allowed in (replace(dataset, allow_empty=True), replace(dataset, min_kept_share=0.04)):
        require_rows(allowed, IMAGE_SHARDS, (0, 1))


def test_partitions_of_a_run_that_kept_few_rows_count_with_the_others(dataset: Dataset) -> None:
    commit(dataset, IMAGE_SHARDS, KEPT)
    commit(dataset, IMAGE_SHARDS, LOST, (0, 1))
    require_rows(dataset, IMAGE_SHARDS, (0, 1))


def test_duplicates_and_filtered_rows_are_not_lost_rows(dataset: Dataset) -> None:
    commit(dataset, DEDUP_PARQUET, Counts(1_000, 5, {"duplicate": 900, "filtered_width": 90, "url_missing": 5}))
    require_rows(dataset, DEDUP_PARQUET)
    commit(dataset, DEDUP_PARQUET, Counts(1_000, 5, {"duplicate": 100, "url_missing": 895}))
    with pytest.raises(EmptyStageError, match=r"kept 20 of 4,000 rows, .*: 3,580 url_missing"):
        require_rows(dataset, DEDUP_PARQUET)


def test_a_share_of_few_rows_is_no_evidence(dataset: Dataset) -> None:
    commit(dataset, DEDUP_PARQUET, Counts(24, 1, {"url_missing": 23}))
    require_rows(dataset, DEDUP_PARQUET)


@pytest.mark.parametrize(
    ("header", "reason", "advice"),
    [
        ("link|TEXT|similarity", "url", "The file a.csv has the columns link, TEXT, similarity: set dedup.url_column"),
        (
            "url,caption",
            "url",
            "The file a.csv has one column, 'url,caption', with dedup.separator '|': set dedup.separator",
        ),
        (
            "URL|TEXT",
            "similarity",
            "The file a.csv has the columns URL, TEXT: leave the missing one out of dedup.required_columns",
        ),
        ("URL|text2|similarity", "text", "has the columns URL, text2, similarity: set dedup.caption_column"),
    ],
)
def test_the_columns_of_the_file_and_the_setting_are_named(
    dataset: Dataset, tmp_path: Path, header: str, reason: str, advice: str
) -> None:
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "a.csv").write_text(f"{header}\n")
    dataset = replace(dataset, source=str(tmp_path / "csv"))
    fetch_raw_csv(dataset, Store.of(dataset), lambda line: None)
    commit(dataset, DEDUP_PARQUET, Counts(125, 0, {f"file_without_{reason}": 125}))
    with pytest.raises(EmptyStageError) as refused:
        require_rows(dataset, DEDUP_PARQUET)
    assert f"kept 0 of 500 rows: 500 file_without_{reason}. The file a.csv has " in str(refused.value)
    assert advice in str(refused.value)


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
