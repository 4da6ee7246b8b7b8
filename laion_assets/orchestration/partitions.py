"""Dagster's partitions and mappings of a dataset, from its layout.

Two static definitions with no mapping between them would be joined by equal keys, silently: every edge of the graph
names its mapping here.
"""

from collections.abc import Iterable

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import LayoutError
from laion_assets.stages.handles import CLIP_EMBEDDINGS, DEDUP_PARQUET, HANDLES, IMAGE_SHARDS, KNN_INDICES
from laion_assets.stages.status import upstream_partitions

PARTITIONED = (DEDUP_PARQUET, IMAGE_SHARDS, CLIP_EMBEDDINGS)
"""The assets that have partitions."""


def partition_keys(dataset: Dataset, asset: str) -> list[str]:
    """The partition keys of an asset in order: fixed width, digits only."""
    handle = HANDLES[asset]
    return [handle.key(dataset.layout, number) for number in handle.numbers(dataset.layout)]


def partition_numbers(dataset: Dataset, asset: str, keys: Iterable[str]) -> tuple[int, ...]:
    """Return the numbers of partition keys in order of definition, whatever the order of the keys.

    Raises LayoutError for a key that the asset does not have.
    """
    if asset not in PARTITIONED:
        return (0,)
    handle, layout = HANDLES[asset], dataset.layout
    numbers = handle.numbers(layout)
    found = []
    for key in keys:
        number = int(key) if key.isdecimal() else -1
        if number not in numbers or handle.key(layout, number) != key:
            first, last = handle.key(layout, numbers[0]), handle.key(layout, numbers[-1])
            raise LayoutError(
                f"Unknown partition {key!r} of {dataset.name}/{asset}. Its partitions are {first} to {last}."
            )
        found.append(number)
    return tuple(sorted(found))


def partitions_of_run(dataset: Dataset, asset: str, run: dg.DagsterRun) -> tuple[int, ...] | None:
    """Return the partition numbers of an asset that a run names, in order; None where the run names none.

    Dagster names them by one key (`dagster/partition`: one partition selected in the Dagster UI, a RunRequest with a
    partition key, `dagster asset materialize --partition`), by a range (two tags: backfills, automation) or by a
    subset of the run. Dagster's own function resolves them all. Raises LayoutError for partitions that do not exist and
    for an empty range.
    """
    definition = partitions_def(dataset, asset)
    if definition is None:
        return (0,) if run.is_partitioned else None
    try:
        subset = run.get_resolved_partitions_subset_for_events(definition)
    except dg.DagsterError as error:  # a range of keys that do not exist, or with one end only
        raise LayoutError(
            f"The partitions of this run are not partitions of {dataset.name}/{asset}: {error}"
        ) from error
    if subset is None:
        return None
    numbers = partition_numbers(dataset, asset, subset.get_partition_keys())
    if not numbers:
        raise LayoutError(
            f"The partition range of this run is empty for {dataset.name}/{asset}: its first key must come first."
        )
    return numbers


def all_partitions(dataset: Dataset, asset: str) -> tuple[int, ...]:
    """Return the numbers of all partitions of an asset."""
    return tuple(HANDLES[asset].numbers(dataset.layout))


def partitions_def(dataset: Dataset, asset: str) -> dg.StaticPartitionsDefinition | None:
    """The asset's partitions definition, None for an asset without partitions."""
    return dg.StaticPartitionsDefinition(partition_keys(dataset, asset)) if asset in PARTITIONED else None


def upstream_mapping(dataset: Dataset, asset: str) -> dg.PartitionMapping | None:
    """How an asset's partitions come from those of the asset before; None where that one has no partitions."""
    if asset == KNN_INDICES:
        return dg.AllPartitionMapping()
    if asset not in (IMAGE_SHARDS, CLIP_EMBEDDINGS):
        return None
    layout = dataset.layout
    handle = HANDLES[asset]
    downstream: dict[str, set[str]] = {}
    for number in handle.numbers(layout):
        before, upstream = upstream_partitions(handle, dataset, number)
        assert before is not None
        for other in upstream:
            downstream.setdefault(before.key(layout, other), set()).add(handle.key(layout, number))
    return dg.StaticPartitionMapping(downstream)


def partitions_a_run(dataset: Dataset, asset: str) -> int:
    """How many partitions of an asset one run covers at most.

    All of `dedup_parquet`: each of its partitions reads every CSV, so that a second run would read them again.
    """
    match asset:
        case "image_shards":
            return dataset.images.shards_per_run
        case "clip_embeddings":
            return dataset.embeddings.files_per_run
        case _:
            return len(HANDLES[asset].numbers(dataset.layout))
