"""The assets `dataset_statistics` and `image_statistics`."""

from typing import Any

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.declaration import asset_key, declaration, run_logger
from laion_assets.stages.handles import (
    DATASET_STATISTICS,
    IMAGE_STATISTICS,
    STATISTICS,
    DatasetStatistics,
    ImageStatistics,
)
from laion_assets.store.store import Store

DATASET_DESCRIPTION = """
What the unique rows are: sizes of pictures by class and quantile, similarities, caption lengths, NSFW tags, licences,
domains, and rows a source file. What the recipe's statistics scripts print, counted over every row and not sampled.

* **from**: the published files of `dedup_parquet`; a rerun counts only those that changed
* **into**: `statistics/dataset_statistics.json` (figures), `.parquet` (exact counts by value), `statistics/report.html`
* **law**: each measure counts every published row once
"""
IMAGE_DESCRIPTION = """
What became of the rows' addresses: pictures and failures by reason, sizes of the originals, domains with their success
rates; and what differs from shard to shard: failures, rate, weight. From parquet files and manifests: no tar is opened.

* **from**: the published shards, also while others are still being fetched; a rerun counts only what changed
* **into**: `statistics/image_statistics.json` (figures), `.parquet` (exact counts by value), `_shards.parquet` (a row a
  shard: rows, pictures, bytes, seconds, reasons), `statistics/report.html`
* **law**: outcomes and reasons count every row of the shards once
"""


def dataset_statistics_asset(dataset: Dataset) -> dg.AssetsDefinition:
    """`dataset_statistics` of a dataset."""

    @dg.asset(
        **_declaration(dataset, DATASET_STATISTICS, DATASET_DESCRIPTION),
    )
    @own_errors_first
    def dataset_statistics(context: dg.AssetExecutionContext) -> DatasetStatistics:
        from laion_assets.stages.statistics.build import build_statistics
        from laion_assets.stages.stored_layout import prepare_store

        prepare_store(dataset, DATASET_STATISTICS, (0,), run_logger(context))
        build_statistics(dataset, Store.of(dataset), DATASET_STATISTICS, run_logger(context))
        return DatasetStatistics.of(dataset)

    return dataset_statistics


def image_statistics_asset(dataset: Dataset) -> dg.AssetsDefinition:
    """`image_statistics` of a dataset."""

    @dg.asset(
        **_declaration(dataset, IMAGE_STATISTICS, IMAGE_DESCRIPTION),
    )
    @own_errors_first
    def image_statistics(context: dg.AssetExecutionContext) -> ImageStatistics:
        from laion_assets.stages.statistics.build import build_statistics
        from laion_assets.stages.stored_layout import prepare_store

        prepare_store(dataset, IMAGE_STATISTICS, (0,), run_logger(context))
        build_statistics(dataset, Store.of(dataset), IMAGE_STATISTICS, run_logger(context))
        return ImageStatistics.of(dataset)

    return image_statistics


def _declaration(dataset: Dataset, asset: str, description: str) -> dict[str, Any]:
    """All partitions of what is counted come before. No input: what is published is read, be it all of them or not."""
    from laion_assets.orchestration.ui.column_schemas import counts_columns

    counted = dg.AssetDep(asset_key(dataset, STATISTICS[asset]), partition_mapping=dg.AllPartitionMapping())
    return declaration(
        dataset,
        asset,
        kinds={"pyarrow", "html"},
        description=description,
        deps=[counted],
        metadata={"dagster/column_schema": counts_columns()},
    )
