"""What every asset of the graph declares alike: key, partitions, IO manager, edge to the asset before."""

from collections.abc import Callable
from typing import Any

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import LayoutError
from laion_assets.orchestration.partitions import partitions_a_run, partitions_def, partitions_of_run, upstream_mapping
from laion_assets.plain_text import one_line
from laion_assets.stages.handles import HANDLES, SOURCES, stages_of


def asset_key(dataset: Dataset, asset: str) -> dg.AssetKey:
    """The key of an asset: `dataset/asset`."""
    return dg.AssetKey([dataset.name, asset])


def declaration(dataset: Dataset, asset: str, *, kinds: set[str], description: str, **more: Any) -> dict[str, Any]:
    """Keyword arguments of `@dg.asset`."""
    definition = partitions_def(dataset, asset)
    covered = partitions_a_run(dataset, asset)
    if covered < len(HANDLES[asset].numbers(dataset.layout)):
        policy = dg.BackfillPolicy.multi_run(covered)
    else:
        policy = dg.BackfillPolicy.single_run()
    return {
        "key": asset_key(dataset, asset),
        "group_name": dataset.name,
        "kinds": kinds,
        "description": description,
        "partitions_def": definition,
        "backfill_policy": policy if definition is not None else None,
        "io_manager_key": f"{asset}_io_manager",
        **more,
    }


def edge(dataset: Dataset, asset: str) -> dict[str, dg.AssetIn]:
    """The input of an asset: the asset before it, with the mapping between their partitions.

    It has the name of the asset before, `source` where that is one of several.
    """
    stages = stages_of(dataset)
    before = stages[stages.index(asset) - 1]
    return {
        "source" if before in SOURCES else before: dg.AssetIn(
            key=asset_key(dataset, before), partition_mapping=upstream_mapping(dataset, asset)
        )
    }


def run_partitions(context: dg.AssetExecutionContext, dataset: Dataset, asset: str) -> tuple[int, ...]:
    """Return the partition numbers that this run covers, in order. Raises LayoutError where it names none."""
    numbers = partitions_of_run(dataset, asset, context.run)
    if numbers is None:
        raise LayoutError(
            f"This run names no partition of {dataset.name}/{asset}. Select partitions in the Dagster UI, or set the "
            "tag dagster/partition, or both dagster/asset_partition_range_start and dagster/asset_partition_range_end."
        )
    return numbers


def run_logger(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> Callable[[str], None]:
    """A function that puts one line into the run's log, whatever the text that it quotes holds."""
    return lambda line: context.log.info(one_line(line))
