"""The stages `dataset_statistics` and `image_statistics`: counts of the rows and images."""

from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets.stages.dedup_parquet.stage import STAGE as DEDUP_PARQUET
from laion_assets.stages.image_shards.stage import STAGE as IMAGE_SHARDS
from laion_assets.stages.stage import Stage
from laion_assets.stages.statistics.handle import DatasetStatistics, ImageStatistics

STATISTICS_VERSION = 2
"""Increased when the counted measures or their definitions change."""

DATASET_DESCRIPTION = """
Count the unique rows by size, similarity, caption length, NSFW tag, licence, domain and source file.

The figures of the recipe's statistics scripts, counted over every row and not over a sample.

* **Input**: the committed files of `dedup_parquet`; a rerun counts only those that changed
* **Output**: `statistics/dataset_statistics.json` (figures), `.parquet` (exact counts by value),
  `statistics/report.html`
* **Invariant**: each measure counts every committed row once
"""
IMAGE_DESCRIPTION = """
Count images and failures by reason, original size and domain, and compare the shards.

Shards are compared by failures, images per second and bytes. The figures come from parquet files and manifests; no tar
is opened.

* **Input**: the committed shards, also while others are still being downloaded; a rerun counts only what changed
* **Output**: `statistics/image_statistics.json` (figures), `.parquet` (exact counts by value), `_shards.parquet` (one
  row per shard: rows, images, bytes, seconds, reasons), `statistics/report.html`
* **Invariant**: outcomes and reasons count every row of the shards once
"""


def byte_settings(dataset: Dataset) -> dict[str, Any]:
    """The version of the counts, and the partitions that they cover."""
    return {"version": STATISTICS_VERSION, "layout": [dataset.layout.shards, dataset.layout.embedding_files]}


def parquet_keys(layout: Layout) -> list[str]:
    """A partial result for each parquet file."""
    return [layout.parquet_key(number) for number in layout.parquet_numbers]


def embedding_keys(layout: Layout) -> list[str]:
    """A partial result for the shards of each embedding file."""
    return [layout.embedding_key(number) for number in layout.embedding_numbers]


DATASET_STAGE = Stage(
    handle=DatasetStatistics,
    description=DATASET_DESCRIPTION,
    invariant="Each measure counts every unique row once; the number of rows is that of the manifests.",
    byte_settings=byte_settings,
    asset="laion_assets.stages.statistics.asset:dataset_statistics_asset",
    io_manager="laion_assets.stages.statistics.io_manager:DatasetStatisticsIOManager",
    check="laion_assets.stages.statistics.check:find_dataset_problems",
    columns="laion_assets.stages.statistics.asset:table_columns",
    column_inputs={"value": ("URL", "TEXT", "WIDTH", "HEIGHT", "similarity", "NSFW", "LICENSE", "source_file")},
    kinds=("pyarrow", "html"),
    upstream=lambda dataset: DEDUP_PARQUET,
    reads_incomplete_input=True,
    parts=parquet_keys,
)
IMAGE_STAGE = Stage(
    handle=ImageStatistics,
    description=IMAGE_DESCRIPTION,
    invariant="Outcomes and reasons count every row of the shards once and agree with the shards' manifests.",
    byte_settings=byte_settings,
    asset="laion_assets.stages.statistics.asset:image_statistics_asset",
    io_manager="laion_assets.stages.statistics.io_manager:ImageStatisticsIOManager",
    check="laion_assets.stages.statistics.check:find_image_problems",
    columns="laion_assets.stages.statistics.asset:table_columns",
    column_inputs={"value": ("url", "status", "reason", "original_width", "original_height")},
    kinds=("pyarrow", "html"),
    upstream=lambda dataset: IMAGE_SHARDS,
    reads_incomplete_input=True,
    parts=embedding_keys,
    layout_counts=("parquet_files", "shards", "embedding_files"),
)
