"""What every asset of the graph declares alike: key, partitions, IO manager, edge to the asset before."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg

from laion_assets.datasets import Dataset
from laion_assets.freshness import Freshness
from laion_assets.handles import STAGES
from laion_assets.partitions import partition_numbers, partitions_def, upstream_mapping


def asset_key(dataset: Dataset, asset: str) -> dg.AssetKey:
    """The key of an asset: `dataset/asset`."""
    return dg.AssetKey([dataset.name, asset])


def declaration(
    dataset: Dataset, asset: str, *, kinds: set[str], description: str, partitions_a_run: int | None, **more: Any
) -> dict[str, Any]:
    """Keyword arguments of `@dg.asset`; `partitions_a_run` None means all partitions of a backfill in one run."""
    policy = dg.BackfillPolicy.multi_run(partitions_a_run) if partitions_a_run else dg.BackfillPolicy.single_run()
    definition = partitions_def(dataset, asset)
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
    """The input of an asset: the asset before it, with the mapping between their partitions."""
    before = STAGES[STAGES.index(asset) - 1]
    return {before: dg.AssetIn(key=asset_key(dataset, before), partition_mapping=upstream_mapping(dataset, asset))}


def run_partitions(context: dg.AssetExecutionContext, dataset: Dataset, asset: str) -> tuple[int, ...]:
    """The partition numbers this run covers, in order."""
    return partition_numbers(dataset, asset, list(context.partition_keys) if context.has_partition_key_range else [])


def say_in(context: dg.AssetExecutionContext) -> Callable[[str], None]:
    """A function that puts a line into the run's log."""
    return lambda line: context.log.info(line)


@contextlib.contextmanager
def finished_are_reported(
    context: dg.AssetExecutionContext, dataset: Dataset, asset: str, partitions: Sequence[int]
) -> Iterator[None]:
    """Where the body fails or is interrupted, report what it had published by then, so that the page shows it.

    A success reports its partitions itself; doing it here as well would double the events.
    """
    before = _complete(dataset, asset, partitions)
    try:
        yield
    except BaseException:
        for key in sorted(_complete(dataset, asset, partitions) - before):
            context.log_event(
                dg.AssetMaterialization(
                    asset_key=asset_key(dataset, asset), partition=key, description="published before its run ended"
                )
            )
        raise


def _complete(dataset: Dataset, asset: str, partitions: Sequence[int]) -> set[str]:
    freshness = Freshness(dataset)
    states = [freshness.state(asset, partition) for partition in partitions]
    return {state.key for state in states if state.state == "complete"}
