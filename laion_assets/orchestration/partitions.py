"""Dagster's partitions and mappings of a dataset, from its layout.

Dagster joins two static definitions without a mapping by equal keys, silently: every edge of the graph names its
mapping here.
"""

from collections.abc import Iterable

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import PartitionKey
from laion_assets.errors import LayoutError
from laion_assets.stages.registry import find_stage


def partition_keys(dataset: Dataset, asset: str) -> list[PartitionKey]:
    """The partition keys of an asset in order: fixed width, digits only."""
    return find_stage(asset).handle.keys(dataset.layout)


def partition_numbers(dataset: Dataset, asset: str, keys: Iterable[str]) -> tuple[int, ...]:
    """Return the numbers of partition keys in order of definition, for keys in any order.

    Raises LayoutError for a key that the asset does not have.
    """
    stage, layout = find_stage(asset), dataset.layout
    if not stage.is_partitioned:
        return (0,)
    handle = stage.handle
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
    return tuple(find_stage(asset).handle.numbers(dataset.layout))


def partitions_def(dataset: Dataset, asset: str) -> dg.StaticPartitionsDefinition | None:
    """The asset's partitions definition, None for an asset without partitions."""
    return dg.StaticPartitionsDefinition(partition_keys(dataset, asset)) if find_stage(asset).is_partitioned else None


def upstream_mapping(dataset: Dataset, asset: str) -> dg.PartitionMapping | None:
    """How an asset's partitions map to those of the asset before; None where that one has no partitions."""
    stage = find_stage(asset)
    before = None if stage.upstream is None else stage.upstream(dataset)
    if before is None or not before.is_partitioned:
        return None
    if not stage.is_partitioned:
        return dg.AllPartitionMapping()
    layout = dataset.layout
    downstream: dict[str, set[str]] = {}
    for number in stage.handle.numbers(layout):
        _, upstream = stage.upstream_partitions(dataset, number)
        for other in upstream:
            downstream.setdefault(before.handle.key(layout, other), set()).add(stage.handle.key(layout, number))
    return dg.StaticPartitionMapping(downstream)


def covering_ranges(numbers: list[int], width: int) -> list[tuple[int, int]]:
    """Return first and last of as few ranges of at most `width` numbers as cover all `numbers`, which ascend.

    Ranges may cover other numbers, too: a run skips complete partitions, and a run for each gap would be far too many.
    """
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and number < ranges[-1][0] + width:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges
