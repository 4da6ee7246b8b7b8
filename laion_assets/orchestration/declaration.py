"""What every asset of the graph declares: key, partitions, backfill policy, IO manager, and the edge to its input."""

from collections.abc import Callable
from typing import Any

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import LayoutError
from laion_assets.orchestration.automation.conditions import automation_condition
from laion_assets.orchestration.partitions import partitions_def, partitions_of_run, upstream_mapping
from laion_assets.orchestration.resource_keys import resource_key
from laion_assets.orchestration.stage_parts import load_columns
from laion_assets.orchestration.ui.column_schemas import column_lineage, table_schema
from laion_assets.plain_text import one_line
from laion_assets.stages.registry import find_stage, list_stages
from laion_assets.stages.stage import Stage
from laion_assets.store.store import Store, owner_of


def asset_key(dataset: Dataset, asset: str) -> dg.AssetKey:
    """The key of an asset: `dataset/asset`. An embedding set has the assets of its dataset whose files it shares."""
    return dg.AssetKey([owner_of(dataset, asset), asset])


def op_name(dataset: Dataset, asset: str) -> str:
    """Dagster's name of the op of an asset, which the run config uses."""
    return "__".join(asset_key(dataset, asset).path)


def own_stages(dataset: Dataset) -> list[Stage]:
    """The stages of an embedding set whose files it does not share with its dataset."""
    store = Store.of(dataset)
    return [stage for stage in list_stages(dataset) if not store.shares(stage.name)]


def common_declaration(stage: Stage, dataset: Dataset) -> dict[str, Any]:
    """Keyword arguments of `@dg.asset` and `@dg.observable_source_asset`."""
    return {
        "key": asset_key(dataset, stage.name),
        "group_name": dataset.graph,
        "description": stage.description,
        "io_manager_key": io_manager_key(stage, dataset),
        "owners": list(dataset.dagster.owners),
        "tags": dict(dataset.dagster.tags),
        "metadata": _column_metadata(stage, dataset),
    }


def _column_metadata(stage: Stage, dataset: Dataset) -> dict[str, Any]:
    """Columns and column lineage of an asset, for the Dagster UI."""
    schema = load_columns(stage, dataset)
    if schema is None:
        return {}
    before = None if stage.upstream is None else stage.upstream(dataset)
    upstream = None if before is None else load_columns(before, dataset)
    if before is None or upstream is None:
        return {"dagster/column_schema": table_schema(schema)}
    lineage = column_lineage(schema, upstream, asset_key(dataset, before.name), stage.column_inputs)
    return {"dagster/column_schema": table_schema(schema), "dagster/column_lineage": lineage}


def declaration(stage: Stage, dataset: Dataset) -> dict[str, Any]:
    """Keyword arguments of `@dg.asset`.

    The input is called `upstream`. A stage that reads incomplete input has no input to load: it depends on all
    partitions of the stage before.
    """
    arguments = {
        **common_declaration(stage, dataset),
        "kinds": {*stage.kinds, *_set_label(stage, dataset)},
        "pool": stage.pool,
        "automation_condition": automation_condition(dataset, stage),
    }
    if stage.is_partitioned:
        covered, total = stage.run_size(dataset), len(stage.handle.numbers(dataset.layout))
        single = dg.BackfillPolicy.single_run()
        arguments["partitions_def"] = partitions_def(dataset, stage.name)
        arguments["backfill_policy"] = single if covered >= total else dg.BackfillPolicy.multi_run(covered)
    if stage.upstream is None:
        return arguments
    before, mapping = stage.upstream(dataset), upstream_mapping(dataset, stage.name)
    key = asset_key(dataset, before.name)
    if stage.reads_incomplete_input:
        return {**arguments, "deps": [dg.AssetDep(key, partition_mapping=mapping)]}
    return {**arguments, "ins": {"upstream": dg.AssetIn(key=key, partition_mapping=mapping)}}


def _set_label(stage: Stage, dataset: Dataset) -> list[str]:
    """The name of the embedding set: the Dagster UI labels assets with their kinds, and hides the name of a dataset."""
    return [dataset.set_name] if dataset.set_name and not Store.of(dataset).shares(stage.name) else []


def io_manager_key(stage: Stage, dataset: Dataset) -> str:
    """The resource key of a stage's IO manager."""
    return resource_key(dataset, f"{stage.name}_io_manager")


def run_partitions(context: dg.AssetExecutionContext, dataset: Dataset, asset: str) -> tuple[int, ...]:
    """Return the partition numbers that this run covers, in order. Raises LayoutError if the run names none."""
    if not find_stage(asset).is_partitioned:
        return (0,)
    numbers = partitions_of_run(dataset, asset, context.run)
    if numbers is None:
        raise LayoutError(
            f"This run names no partition of {dataset.name}/{asset}. Select partitions in the Dagster UI, or set the "
            "tag dagster/partition, or both dagster/asset_partition_range_start and dagster/asset_partition_range_end."
        )
    return numbers


def run_logger(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> Callable[[str], None]:
    """Return a function that logs any text as one line in the run."""
    return lambda line: context.log.info(one_line(line))
