"""The jobs request one backfill over exactly the partitions that are due."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.embedding_set import EmbeddingSet
from laion_assets.dataset.layout import Layout
from laion_assets.definitions import build_definitions
from laion_assets.errors import LaionAssetsError
from laion_assets.orchestration.automation.due import find_due, find_failed_rows
from laion_assets.orchestration.automation.jobs import JOB_TAG
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET, DedupParquet
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS, ImageShards
from laion_assets.stages.raw_csv.build import fetch_raw_csv
from laion_assets.stages.raw_csv.handle import RAW_CSV
from laion_assets.stages.stage import inputs_digest
from laion_assets.stages.status import settings_digest
from laion_assets.store.manifest import Counts, Manifest, read_manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction

LATER = {"clip_embeddings": (0, 1), "knn_indices": (0,), "search_report": (0,)}
SUMMARIES = {"dataset_statistics": (0,), "image_statistics": (0,)}


@pytest.fixture
def dataset(dataset: Dataset, tmp_path: Path) -> Dataset:
    """A dataset with two CSV files, whose parquet files and shards are committed and whose later stages are not."""
    (tmp_path / "csv").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / "csv" / name).write_text("URL|TEXT\n")
    dataset = replace(
        dataset,
        source=str(tmp_path / "csv"),
        layout=Layout(2, 12, 2, 250),
        images=replace(dataset.images, shards_per_run=4),
    )
    raw = fetch_raw_csv(dataset, Store.of(dataset), lambda line: None)
    for number in range(2):
        commit_parquet(dataset, number, raw)
    for number in range(12):
        commit_shard(dataset, number)
    return dataset


def commit_parquet(dataset: Dataset, number: int, raw: Manifest) -> None:
    layout = dataset.layout
    with open_transaction(Store.of(dataset), DEDUP_PARQUET, layout.parquet_key(number)) as transaction:
        transaction.stage(DedupParquet.path(layout, number)).write_bytes(b"")
        outputs = {layout.shard_key(shard): f"rows of {shard}" for shard in layout.shards_of_parquet(number)}
        inputs = inputs_digest(layout.parquet_key(number), [raw])
        transaction.commit(
            Counts(6, 6), settings=settings_digest(dataset, DEDUP_PARQUET), inputs=inputs, outputs=outputs
        )


def commit_shard(dataset: Dataset, number: int, reason: str = "http_404", settings: str = "") -> None:
    layout = dataset.layout
    with open_transaction(Store.of(dataset), IMAGE_SHARDS, layout.shard_key(number)) as transaction:
        transaction.stage(ImageShards.path(layout, number, ".tar")).write_bytes(reason.encode())
        settings = settings or settings_digest(dataset, IMAGE_SHARDS)
        transaction.commit(Counts(2, 1, {reason: 1}), settings=settings, inputs=f"rows of {number}")


def remove(dataset: Dataset, asset: str, key: str) -> None:
    Path(Store.of(dataset).url, "manifests", asset, f"{key}.json").unlink()


def test_what_is_built_from_a_missing_partition_is_due_and_what_is_complete_is_not(dataset: Dataset) -> None:
    assert find_due(dataset) == {**SUMMARIES, **LATER}
    remove(dataset, IMAGE_SHARDS, "00002")
    assert find_due(dataset) == {**SUMMARIES, IMAGE_SHARDS: (2,), **LATER}
    remove(dataset, DEDUP_PARQUET, "01")
    due = find_due(dataset)
    assert due == {DEDUP_PARQUET: (1,), **SUMMARIES, IMAGE_SHARDS: (2, *range(6, 12)), **LATER}
    assert list(due) == [DEDUP_PARQUET, "dataset_statistics", IMAGE_SHARDS, "image_statistics", *LATER], "stage order"
    assert find_due(dataset, source_changed=True)[RAW_CSV] == (0,)
    assert find_due(dataset, source_changed=True)[IMAGE_SHARDS] == tuple(range(12))


def test_gaps_within_a_run_are_filled_so_that_scattered_partitions_take_few_runs(dataset: Dataset) -> None:
    for key in ("00000", "00002", "00003", "00009"):
        remove(dataset, IMAGE_SHARDS, key)
    assert find_due(dataset)[IMAGE_SHARDS] == (0, 1, 2, 3, 9)


def test_partitions_built_with_other_settings_are_refused_unless_they_are_asked_for(dataset: Dataset) -> None:
    commit_shard(dataset, 4, settings="others")
    with pytest.raises(LaionAssetsError, match=r"1 partitions of sample/image_shards .* the first one is 00004"):
        find_due(dataset)
    assert find_due(dataset, rebuild_changed_settings=True)[IMAGE_SHARDS] == (4,)


def test_only_shards_with_a_failure_of_that_reason_are_fetched_again(dataset: Dataset) -> None:
    for number in (1, 3, 11):
        commit_shard(dataset, number, reason="dns_failure")
    assert find_failed_rows(dataset, ["dns_failure"]) == {IMAGE_SHARDS: (1, 2, 3, 11)}
    assert find_failed_rows(dataset, ["http_5xx"]) == {}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as opened:
        yield opened


def run(dataset: Dataset, instance: dg.DagsterInstance, name: str, **config: object) -> dg.ExecuteInProcessResult:
    job = build_definitions(dataset).resolve_job_def(f"{dataset.name}_{name}")
    (op,) = job.all_node_defs
    run_config = {"ops": {op.name: {"config": config}}}
    return job.execute_in_process(run_config, instance=instance, raise_on_error=False)


def test_the_job_starts_one_backfill_and_no_second_one_while_it_runs(
    dataset: Dataset, instance: dg.DagsterInstance
) -> None:
    remove(dataset, IMAGE_SHARDS, "00002")
    assert run(dataset, instance, "all").success
    (backfill,) = instance.get_backfills()
    subset = backfill.asset_backfill_data.target_subset
    shards = dg.AssetKey([dataset.name, IMAGE_SHARDS])
    assert subset.partitions_subsets_by_asset_key[shards].get_partition_keys() == {"00002"}
    assert {key.path[-1] for key in subset.asset_keys} == {IMAGE_SHARDS, *LATER, *SUMMARIES}
    assert backfill.tags[JOB_TAG] == f"{dataset.name}_all"
    again = run(dataset, instance, "all")
    assert again.success
    assert again.output_for_node(f"{dataset.name}_start_all") == backfill.backfill_id
    assert len(instance.get_backfills()) == 1


def test_the_backfill_covers_the_embedding_sets_and_shared_partitions_once(
    dataset: Dataset, instance: dg.DagsterInstance
) -> None:
    dataset = replace(dataset, embedding_sets=(EmbeddingSet("small", dataset.model),))
    remove(dataset, IMAGE_SHARDS, "00002")
    assert run(dataset, instance, "all").success
    (backfill,) = instance.get_backfills()
    subset = backfill.asset_backfill_data.target_subset
    of_set = {f"{dataset.name}_small/{asset}" for asset in LATER}
    of_dataset = {f"{dataset.name}/{asset}" for asset in (IMAGE_SHARDS, *LATER, *SUMMARIES)}
    assert {key.to_user_string() for key in subset.asset_keys} == of_set | of_dataset
    small = subset.partitions_subsets_by_asset_key[dg.AssetKey([f"{dataset.name}_small", "clip_embeddings"])]
    assert small.get_partition_keys() == {"0", "1"}


def test_a_new_file_at_the_source_makes_everything_due(
    dataset: Dataset, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    (tmp_path / "csv" / "c.csv").write_text("URL|TEXT\n")
    assert run(dataset, instance, "all", check_source=False).success
    assert run(replace(dataset, name="sample"), instance, "all").success
    (without,) = instance.get_backfills()
    assert dg.AssetKey([dataset.name, RAW_CSV]) not in without.asset_backfill_data.target_subset.asset_keys
    with dg.instance_for_test() as other:
        assert run(dataset, other, "all").success
        (backfill,) = other.get_backfills()
        assert dg.AssetKey([dataset.name, RAW_CSV]) in backfill.asset_backfill_data.target_subset.asset_keys


def test_the_retry_job_passes_the_reasons_to_the_runs_of_the_backfill(
    dataset: Dataset, instance: dg.DagsterInstance
) -> None:
    commit_shard(dataset, 3, reason="dns_failure")
    assert run(dataset, instance, "retry_failed").success
    (backfill,) = instance.get_backfills()
    assert "dns_failure" in backfill.run_config["ops"][f"{dataset.name}__image_shards"]["config"]["retry"]
    subset = backfill.asset_backfill_data.target_subset.partitions_subsets_by_asset_key
    assert [keys.get_partition_keys() for keys in subset.values()] == [{"00003"}]


def test_nothing_due_starts_nothing_and_an_error_is_one_sentence(
    dataset: Dataset, instance: dg.DagsterInstance
) -> None:
    assert run(dataset, instance, "retry_failed", retry=["http_5xx"]).success
    assert instance.get_backfills() == []
    commit_shard(dataset, 4, settings="others")
    result = run(dataset, instance, "all")
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "were built with other settings" in failure.step_failure_data.error.message
    assert read_manifest(Store.of(dataset), IMAGE_SHARDS, "00004") is not None
