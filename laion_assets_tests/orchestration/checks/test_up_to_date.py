"""The check `up_to_date`: stale partitions are reported, not rebuilt; a run over a range checks only its range."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from laion_assets.dataset.built_in import REHEARSAL
from laion_assets.dataset.dataset import Dataset
from laion_assets.definitions import build_definitions
from laion_assets.orchestration.checks.up_to_date import EXAMPLES, NAME, examples, summarize
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.registry import find_stage, stage_names
from laion_assets.stages.status import DatasetStatus, PartitionState, State, settings_digest
from laion_assets.store.manifest import Counts, FileEntry, Manifest, manifest_path
from laion_assets.store.store import Store


def write(dataset: Dataset, asset: str, partitions: Sequence[int], **changed: object) -> None:
    """Manifests without files, of partitions that are up to date but for what is `changed`."""
    handle, layout = find_stage(asset).handle, dataset.layout
    folder = Path(Store.of(dataset).local_path(manifest_path(asset, "")) or "").parent
    folder.mkdir(parents=True, exist_ok=True)
    settings = settings_digest(dataset, asset)
    for number in partitions:
        key = handle.key(layout, number)
        shards = layout.shards_of_parquet(number) if asset == DEDUP_PARQUET else ()
        outputs = {layout.shard_key(shard): f"rows of {layout.shard_key(shard)}" for shard in shards}
        manifest = Manifest(asset, key, (), Counts(0, 0), settings=settings, inputs=f"rows of {key}", outputs=outputs)
        (folder / f"{key}.json").write_bytes(replace(manifest, **changed).to_json())


def evaluate(dataset: Dataset, asset: str, **tags: str) -> dg.AssetCheckEvaluation:
    """A run of the check alone, as the Dagster UI starts it."""
    key = dg.AssetCheckKey(dg.AssetKey([dataset.name, asset]), NAME)
    job = build_definitions(dataset).resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.get_subset(asset_selection=set(), asset_check_selection={key}).execute_in_process(
            instance=instance, tags=tags
        )
    (evaluation,) = result.get_asset_check_evaluations()
    return evaluation


def counts(evaluation: dg.AssetCheckEvaluation) -> dict[str, object]:
    return {state: evaluation.metadata[state].value for state in ("complete", "stale", "damaged", "missing")}


@pytest.fixture
def committed(dataset: Dataset) -> Dataset:
    """A sample whose parquet files and shards are committed, without files."""
    write(dataset, DEDUP_PARQUET, range(4))
    write(dataset, IMAGE_SHARDS, range(24))
    return dataset


@pytest.mark.parametrize("waits", [False, True])
def test_states_read_ahead_are_those_of_one_partition_after_the_other(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    dataset = replace(REHEARSAL, root=dataset.root)
    write(dataset, DEDUP_PARQUET, range(2))
    write(dataset, IMAGE_SHARDS, range(1_500))
    write(dataset, IMAGE_SHARDS, range(40, 90), settings="another day's")
    write(dataset, IMAGE_SHARDS, range(300, 310), inputs="other rows")
    write(dataset, IMAGE_SHARDS, range(700, 800), files=(FileEntry("image_shards/00700.tar", 1, "0" * 64),))
    folder = Path(Store.of(dataset).local_path(manifest_path(IMAGE_SHARDS, "")) or "").parent
    (folder / "00999.json").write_bytes(b"{")
    (folder / "01000.json").unlink()
    readers = set()

    def read(store: Store, path: str, limit: int | None = None) -> bytes:
        readers.add(threading.get_ident())
        return read_bytes(store, path, limit)

    read_bytes = Store.read_bytes
    with monkeypatch.context() as patch:
        patch.setattr(Store, "read_bytes", read)
        patch.setattr(time, "thread_time", (lambda: 0.0) if waits else time.perf_counter)
        found = DatasetStatus(dataset).states(IMAGE_SHARDS)
    assert (len(readers) > 1) == waits, "threads where the disk is slow, and there alone"
    one_by_one = DatasetStatus(dataset)
    assert found == [one_by_one.state(IMAGE_SHARDS, shard) for shard in range(dataset.layout.shards)]
    assert Counter(state.state for state in found[:1_500]) == {
        "complete": 1338,
        "stale": 60,
        "damaged": 101,
        "missing": 1,
    }
    assert {state.state for state in found[1_500:]} == {"missing"}


def test_what_is_complete_passes(committed: Dataset) -> None:
    found = evaluate(committed, IMAGE_SHARDS)
    assert found.passed
    assert counts(found) == {"complete": 24, "stale": 0, "damaged": 0, "missing": 0}
    assert found.metadata["partitions"].value == "24 (all)"
    assert "examples" not in found.metadata


def test_a_stale_partition_is_a_warning_with_its_reason_and_stays_as_it_is(committed: Dataset) -> None:
    write(committed, IMAGE_SHARDS, range(3, 6), settings="of yesterday")
    write(committed, IMAGE_SHARDS, [9], inputs="other rows")
    before = [state.manifest for state in DatasetStatus(committed).states(IMAGE_SHARDS)]
    found = evaluate(committed, IMAGE_SHARDS)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert counts(found) == {"complete": 20, "stale": 4, "damaged": 0, "missing": 0}
    assert [record.data for record in found.metadata["examples"].records] == [
        {"first": "00003", "last": "00005", "count": 3, "state": "stale", "why": "settings changed"},
        {"first": "00009", "last": "00009", "count": 1, "state": "stale", "why": "inputs changed"},
    ]
    assert [state.manifest for state in DatasetStatus(committed).states(IMAGE_SHARDS)] == before


def test_a_damaged_partition_is_an_error_and_comes_first(committed: Dataset) -> None:
    write(committed, IMAGE_SHARDS, [2], settings="of yesterday")
    path = Store.of(committed).local_path(manifest_path(IMAGE_SHARDS, "00007"))
    assert path is not None
    path.write_bytes(b"{")
    found = evaluate(committed, IMAGE_SHARDS)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert [record.data["first"] for record in found.metadata["examples"].records] == ["00007", "00002"]


def test_what_is_missing_is_counted_and_neither_a_warning_nor_an_error(dataset: Dataset) -> None:
    write(dataset, DEDUP_PARQUET, range(4))
    write(dataset, IMAGE_SHARDS, range(20))
    found = evaluate(dataset, IMAGE_SHARDS)
    assert found.passed
    assert found.description == "20 complete, 4 missing of 24 partitions"
    (row,) = found.metadata["examples"].records
    assert row.data == {"first": "00020", "last": "00023", "count": 4, "state": "missing", "why": "not committed"}


def test_a_run_over_a_range_checks_only_the_range(committed: Dataset) -> None:
    write(committed, IMAGE_SHARDS, [3, 20], settings="of yesterday")
    tags = {"dagster/asset_partition_range_start": "00002", "dagster/asset_partition_range_end": "00011"}
    found = evaluate(committed, IMAGE_SHARDS, **tags)
    assert counts(found) == {"complete": 9, "stale": 1, "damaged": 0, "missing": 0}
    assert found.metadata["partitions"].value == "10 (of this run)"


def test_the_table_is_bounded_and_counts_what_it_leaves_out() -> None:
    states = [
        PartitionState(IMAGE_SHARDS, f"{n:05d}", State.STALE if n % 2 else State.COMPLETE, "why") for n in range(100)
    ]
    found = summarize(states, "all")
    assert len(found.metadata["examples"].records) == EXAMPLES
    assert found.metadata["further_rows"].value == 50 - EXAMPLES
    assert examples(states[:1]) == []


def test_every_asset_has_it(dataset: Dataset) -> None:
    graph = build_definitions(dataset).resolve_asset_graph()
    for asset in stage_names(dataset):
        key = dg.AssetKey([dataset.name, asset])
        assert dg.AssetCheckKey(key, NAME) in graph.get_check_keys_for_assets({key})


def test_41455_shards_take_seconds(tmp_path: Path) -> None:
    """Measured in CPU seconds, so that a busy machine does not fail the test: about 3 s, including the run."""
    dataset = replace(REHEARSAL, root=str(tmp_path))
    write(dataset, DEDUP_PARQUET, range(32))
    write(dataset, IMAGE_SHARDS, range(41_455))
    begun = time.process_time()
    found = evaluate(dataset, IMAGE_SHARDS)
    assert time.process_time() - begun < 15
    assert counts(found)["complete"] == 41_455
