"""The asset checks of a dataset: each recounts the law of its stage from the files themselves.

A check never trusts the counters of the run that made the files: it opens tars, parquet files, npy files and indices,
counts, and compares with what the manifests promise. A run's check covers the run's partitions.
"""

from collections.abc import Callable, Iterator

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import LaionAssetsError
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.checks.model_loader import ModelLoader
from laion_assets.orchestration.declaration import asset_key
from laion_assets.orchestration.partitions import all_partitions, partitions_of_run
from laion_assets.orchestration.resources.clip_model import ClipModelResource
from laion_assets.orchestration.ui.metadata_values import description, table
from laion_assets.stages.clip_embeddings import check as clip_embeddings
from laion_assets.stages.dedup_parquet import check as dedup_parquet
from laion_assets.stages.handles import DATASET_STATISTICS, HANDLES, IMAGE_STATISTICS, assets_of
from laion_assets.stages.image_shards import check as image_shards
from laion_assets.stages.knn_indices import check as knn_indices
from laion_assets.stages.published_parquet import check as published_parquet
from laion_assets.stages.raw_csv import check as raw_csv
from laion_assets.stages.statistics import check as statistics
from laion_assets.store.store import Store

PARTITIONS_A_CHECK = 1_000
"""A check started without a partition range recounts this many partitions at most, spread evenly over all."""
Verify = Callable[[Dataset, Store, int, ModelLoader], Iterator[str]]
"""Yields what is wrong with one partition, a sentence each, naming file, shard or row; nothing where all is well."""

VERIFIERS: dict[str, tuple[Verify, str]] = {
    module.ASSET: (module.problems, module.INVARIANT)
    for module in (raw_csv, published_parquet, dedup_parquet, image_shards, clip_embeddings, knn_indices)
} | {
    DATASET_STATISTICS: (statistics.dataset_problems, statistics.DATASET_INVARIANT),
    IMAGE_STATISTICS: (statistics.image_problems, statistics.IMAGE_INVARIANT),
}


def verify(dataset: Dataset, asset: str, partitions: tuple[int, ...], load_model: ModelLoader) -> dict[str, list[str]]:
    """Problems by partition key; empty where the files of all these partitions keep the law."""
    problems, _ = VERIFIERS[asset]
    store = Store.of(dataset)
    found: dict[str, list[str]] = {}
    for partition in partitions:
        sentences: list[str] = []
        try:
            sentences.extend(problems(dataset, store, partition, load_model))
        except (LaionAssetsError, OSError, ValueError) as error:
            sentences.append(str(error))
        if sentences:
            found[HANDLES[asset].key(dataset.layout, partition)] = sentences
    return found


def row_count_checks(dataset: Dataset) -> list[dg.AssetChecksDefinition]:
    """One recounting check for each asset."""
    return [_check(dataset, asset, VERIFIERS[asset][1]) for asset in assets_of(dataset)]


def _check(dataset: Dataset, asset: str, invariant: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=asset_key(dataset, asset), name="row_counts", description=invariant)
    @own_errors_first
    def row_counts(context: dg.AssetCheckExecutionContext, clip_model: ClipModelResource) -> dg.AssetCheckResult:
        ours = partitions_of_run(dataset, asset, context.run)
        partitions = _spread(all_partitions(dataset, asset)) if ours is None else ours
        found = verify(dataset, asset, partitions, clip_model.load)
        problems = [(key, sentence) for key, sentences in found.items() for sentence in sentences[:3]]
        metadata: dict[str, dg.MetadataValue] = {"partitions_recounted": dg.MetadataValue.int(len(partitions))}
        if problems:
            metadata["problems"] = table(("partition", "problem"), problems)
        return dg.AssetCheckResult(
            passed=not found,
            metadata=metadata,
            description=description(
                f"{len(found)} of {len(partitions)} partitions break the law" if found else invariant
            ),
        )

    return row_counts


def _spread(partitions: tuple[int, ...]) -> tuple[int, ...]:
    return partitions[:: -(-len(partitions) // PARTITIONS_A_CHECK)]
