"""IO managers return exactly the run's partitions, in order, or refuse by name."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace

import dagster as dg
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import ForeignError, IncompleteError, LaionAssetsError
from laion_assets.orchestration.partitions import partitions_def
from laion_assets.stages.dedup_parquet.handle import DedupParquet
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS, ImageShards
from laion_assets.stages.image_shards.io_manager import ImageShardsIOManager
from laion_assets.store.manifest import Counts
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction


@pytest.fixture
def dataset(dataset: Dataset) -> Dataset:
    """The sample dataset; its shards have no image here."""
    return replace(dataset, allow_empty=True)


def commit_shards(dataset: Dataset, shards: list[int]) -> None:
    store = Store.of(dataset)
    for shard in shards:
        key = dataset.layout.shard_key(shard)
        with open_transaction(store, IMAGE_SHARDS, key) as transaction:
            transaction.stage(ImageShards.path(dataset.layout, shard, ".tar")).write_bytes(b"")
            transaction.commit(Counts(1, 0, {"http_404": 1}), settings="s", inputs="i")


def materialize(dataset: Dataset, returned: object) -> dg.ExecuteInProcessResult:
    """A run over the shards 00003 to 00012 whose asset returns `returned`."""
    definition = partitions_def(dataset, IMAGE_SHARDS)

    @dg.asset(
        key=[dataset.name, IMAGE_SHARDS],
        partitions_def=definition,
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key="io",
    )
    def image_shards() -> object:
        return returned

    return dg.materialize(
        [image_shards],
        resources={"io": ImageShardsIOManager(dataset)},
        tags={"dagster/asset_partition_range_start": "00003", "dagster/asset_partition_range_end": "00012"},
        instance=dg.DagsterInstance.ephemeral(),
    )


@contextlib.contextmanager
def refused(kind: type[LaionAssetsError], message: str) -> Iterator[None]:
    """The run fails with our error, and Dagster shows its message first."""
    with pytest.raises(dg.Failure) as raised:
        yield
    assert isinstance(raised.value.__cause__, kind)
    assert re.search(message, raised.value.description or "")


def test_a_run_s_partitions_are_verified(dataset: Dataset) -> None:
    commit_shards(dataset, list(range(3, 13)))
    assert materialize(dataset, ImageShards.of(dataset, tuple(range(3, 13)))).success


def test_a_person_sees_rows_reasons_and_neighbours_of_a_partition(dataset: Dataset) -> None:
    commit_shards(dataset, [7])
    metadata = ImageShardsIOManager(dataset).build_metadata(7, ImageShards.of(dataset, (7,)).manifest(7))
    assert (metadata["rows_in"].value, metadata["rows_out"].value) == (1, 0)
    (dropped,) = metadata["dropped_by_reason"].records
    assert dropped.data == {"reason": "http_404", "rows": 1, "share": "100 %"}
    rows, embeddings = metadata["dedup_parquet"].value, metadata["clip_embeddings"].value
    assert rows == r"[dedup\_parquet 01](/assets/sample/dedup_parquet?view=partitions&partition=01)"
    assert embeddings == r"[clip\_embeddings 1](/assets/sample/clip_embeddings?view=partitions&partition=1)"
    assert metadata["summary"].value.startswith("0 of 1 rows kept (0 %), 0 bytes in 1 file")
    names = list(metadata)
    assert names.index("dropped_by_reason") < names.index("success_rate") < names.index("rows_in"), "numbers for plots"
    assert names[-2:] == ["root", "files"], "long raw values come last"
    assert metadata["rows_from"].value == "row group 1 of dedup_parquet/01.parquet"


def test_a_partition_that_was_not_committed_is_named(dataset: Dataset) -> None:
    commit_shards(dataset, [shard for shard in range(3, 13) if shard not in (5, 9)])
    with refused(IncompleteError, r"00005 \(not committed\), 00009 \(not committed\)"):
        materialize(dataset, ImageShards.of(dataset, tuple(range(3, 13))))


@pytest.mark.parametrize("partitions", [tuple(range(3, 12)), tuple(range(3, 14)), tuple(reversed(range(3, 13)))])
def test_other_partitions_than_the_run_s_are_foreign(dataset: Dataset, partitions: tuple[int, ...]) -> None:
    commit_shards(dataset, list(range(0, 24)))
    with refused(ForeignError, "10 partitions"):
        materialize(dataset, ImageShards.of(dataset, partitions))


def test_another_artefact_or_another_store_is_foreign(dataset: Dataset) -> None:
    commit_shards(dataset, list(range(0, 24)))
    with refused(ForeignError, "DedupParquet"):
        materialize(dataset, DedupParquet.of(dataset, (0, 1)))
    with refused(ForeignError, "in file|in /"):
        materialize(dataset, ImageShards.of(replace(dataset, root="/elsewhere"), tuple(range(3, 13))))


def test_keys_in_hash_order_are_sorted_on_the_way_in(dataset: Dataset) -> None:
    commit_shards(dataset, list(range(0, 24)))
    keys = [f"{shard:05d}" for shard in (9, 3, 17, 4)]
    context = dg.build_input_context(
        asset_key=dg.AssetKey([dataset.name, IMAGE_SHARDS]),
        asset_partitions_def=partitions_def(dataset, IMAGE_SHARDS),
        asset_partition_key_range=dg.PartitionKeyRange("00003", "00017"),
    )
    manager = ImageShardsIOManager(dataset)
    assert manager.load_input(context).partitions == tuple(range(3, 18))
    assert manager._partitions(_Keys(keys)) == (3, 4, 9, 17)


class _Keys:
    """A context whose keys come in the given order."""

    has_asset_partitions = True

    def __init__(self, keys: list[str]) -> None:
        self.asset_partition_keys = keys
