"""Which partitions a check is about: those of its run; all of them where it was started alone."""

import dagster as dg

from laion_assets.datasets import Dataset
from laion_assets.handles import HANDLES
from laion_assets.partitions import PARTITIONED


def partitions_of_run(context: dg.AssetCheckExecutionContext, dataset: Dataset, asset: str) -> tuple[int, ...] | None:
    """The partition numbers that the check's run covers, None where it names none.

    They are taken from the run's tags: Dagster hands a check's input all partitions, whatever the run's range.
    """
    tags = context.run.tags
    one = tags.get("dagster/partition")
    first = tags.get("dagster/asset_partition_range_start", one)
    last = tags.get("dagster/asset_partition_range_end", one)
    if first is None or last is None:
        return None
    if asset not in PARTITIONED:
        return all_partitions(dataset, asset)
    return tuple(range(int(first), int(last) + 1))


def all_partitions(dataset: Dataset, asset: str) -> tuple[int, ...]:
    """The numbers of all partitions of an asset."""
    return tuple(HANDLES[asset].numbers(dataset.layout))
