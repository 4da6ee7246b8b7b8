"""The assets `dataset_statistics` and `image_statistics`."""

import dagster as dg

from laion_assets.assets.declaration import asset_key, declaration, say_in
from laion_assets.commit.store import Store
from laion_assets.datasets import Dataset
from laion_assets.handles import (
    DATASET_STATISTICS,
    IMAGE_STATISTICS,
    STATISTICS,
    DatasetStatistics,
    ImageStatistics,
)

DATASET_DESCRIPTION = """
What the unique rows are: sizes of pictures by class and quantile, similarities, caption lengths, NSFW tags, licences,
domains, and rows a source file. What the recipe's statistics scripts print, counted over every row and not sampled.

* **from**: the published files of `dedup_parquet`; a rerun counts only those that changed
* **into**: `statistics/dataset_statistics.json` (figures), `.parquet` (exact counts by value), `statistics/report.html`
* **law**: each measure counts every published row once
"""
IMAGE_DESCRIPTION = """
What became of the rows' addresses: pictures and failures by reason, sizes of the originals, domains with their success
rates. From the shards' parquet files alone: no tar is opened.

* **from**: the published shards, also while others are still being fetched; a rerun counts only what changed
* **into**: `statistics/image_statistics.json` (figures), `.parquet` (exact counts by value), `statistics/report.html`
* **law**: outcomes and reasons count every row of the shards once
"""


def dataset_statistics_asset(dataset: Dataset) -> dg.AssetsDefinition:
    """`dataset_statistics` of a dataset."""

    @dg.asset(
        **declaration(dataset, DATASET_STATISTICS, kinds={"pyarrow", "html"}, description=DATASET_DESCRIPTION),
        deps=[_all_of(dataset, DATASET_STATISTICS)],
    )
    def dataset_statistics(context: dg.AssetExecutionContext) -> DatasetStatistics:
        from laion_assets.statistics.build import build_statistics

        build_statistics(dataset, Store.of(dataset), DATASET_STATISTICS, say_in(context))
        return DatasetStatistics.of(dataset)

    return dataset_statistics


def image_statistics_asset(dataset: Dataset) -> dg.AssetsDefinition:
    """`image_statistics` of a dataset."""

    @dg.asset(
        **declaration(dataset, IMAGE_STATISTICS, kinds={"pyarrow", "html"}, description=IMAGE_DESCRIPTION),
        deps=[_all_of(dataset, IMAGE_STATISTICS)],
    )
    def image_statistics(context: dg.AssetExecutionContext) -> ImageStatistics:
        from laion_assets.statistics.build import build_statistics

        build_statistics(dataset, Store.of(dataset), IMAGE_STATISTICS, say_in(context))
        return ImageStatistics.of(dataset)

    return image_statistics


def _all_of(dataset: Dataset, asset: str) -> dg.AssetDep:
    """All partitions of the asset that is counted. No input: what is published is read, be it all of them or not."""
    return dg.AssetDep(asset_key(dataset, STATISTICS[asset]), partition_mapping=dg.AllPartitionMapping())
