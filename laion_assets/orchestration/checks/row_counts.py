"""The check `row_counts` of every asset: it verifies the stage's row-count invariant from the files.

A check never trusts the counters of the run that built the files: it opens tars, parquet files, npy files and indices,
counts, and compares with the manifests. The check of a run covers the partitions of the run.
"""

from collections.abc import Sequence

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import LaionAssetsError
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.declaration import asset_key
from laion_assets.orchestration.partitions import all_partitions, partitions_of_run
from laion_assets.orchestration.resource_keys import require_resources
from laion_assets.orchestration.resources.clip_model import ClipModelResource
from laion_assets.orchestration.stage_parts import ModelLoader, load_check
from laion_assets.orchestration.ui.metadata_values import description, table
from laion_assets.stages.registry import find_stage
from laion_assets.stages.stage import Stage
from laion_assets.store.store import Store

NAME = "row_counts"
PARTITIONS_PER_CHECK = 1_000
"""A check started without partitions verifies this many at most, spread evenly over all."""


def verify(dataset: Dataset, asset: str, partitions: tuple[int, ...], load_model: ModelLoader) -> dict[str, list[str]]:
    """Return problems by partition key; empty where the files of all these partitions keep the invariant."""
    stage, store = find_stage(asset), Store.of(dataset)
    find_problems = load_check(stage)
    found: dict[str, list[str]] = {}
    for partition in partitions:
        problems: list[str] = []
        try:
            problems.extend(find_problems(dataset, store, partition, load_model))
        except (LaionAssetsError, OSError, ValueError) as error:
            problems.append(str(error))
        if problems:
            found[stage.handle.key(dataset.layout, partition)] = problems
    return found


def row_count_checks(dataset: Dataset, stages: Sequence[Stage]) -> list[dg.AssetChecksDefinition]:
    """One check for each asset."""
    return [_check(dataset, stage) for stage in stages]


def _check(dataset: Dataset, stage: Stage) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=asset_key(dataset, stage.name), name=NAME, description=stage.invariant)
    @require_resources(dataset)
    @own_errors_first
    def row_counts(context: dg.AssetCheckExecutionContext, clip_model: ClipModelResource) -> dg.AssetCheckResult:
        of_run = partitions_of_run(dataset, stage.name, context.run)
        partitions = _spread(all_partitions(dataset, stage.name)) if of_run is None else of_run
        found = verify(dataset, stage.name, partitions, clip_model.load)
        problems = [(key, sentence) for key, sentences in found.items() for sentence in sentences[:3]]
        metadata: dict[str, dg.MetadataValue] = {"partitions_verified": dg.MetadataValue.int(len(partitions))}
        if problems:
            metadata["problems"] = table(("partition", "problem"), problems)
        violated = f"{len(found)} of {len(partitions)} partitions violate the row-count invariant"
        return dg.AssetCheckResult(
            passed=not found, metadata=metadata, description=description(violated if found else stage.invariant)
        )

    return row_counts


def _spread(partitions: tuple[int, ...]) -> tuple[int, ...]:
    return partitions[:: -(-len(partitions) // PARTITIONS_PER_CHECK)]
