"""Dagster's partitions and mappings of a dataset, from its layout.

Two static definitions with no mapping between them would be joined by equal keys, silently: every edge of the graph
names its mapping here.
"""

import dagster as dg

from laion_assets.datasets import Dataset
from laion_assets.freshness import upstream_partitions
from laion_assets.handles import CLIP_EMBEDDINGS, DEDUP_PARQUET, HANDLES, IMAGE_SHARDS, KNN_INDICES

PARTITIONED = (DEDUP_PARQUET, IMAGE_SHARDS, CLIP_EMBEDDINGS)
"""The assets that have partitions."""


def partition_keys(dataset: Dataset, asset: str) -> list[str]:
    """The partition keys of an asset in order: fixed width, digits only."""
    handle = HANDLES[asset]
    return [handle.key(dataset.layout, number) for number in handle.numbers(dataset.layout)]


def partition_numbers(dataset: Dataset, asset: str, keys: list[str]) -> tuple[int, ...]:
    """The numbers of partition keys, in order of definition, whatever order the keys came in."""
    return tuple(sorted(int(key) for key in keys)) if asset in PARTITIONED else (0,)


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
