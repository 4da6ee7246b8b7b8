"""The stage `image_shards`: images in webdataset shards."""

from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout, ShardNumber
from laion_assets.dataset.settings.field import byte_settings as settings_of
from laion_assets.stages.dedup_parquet.stage import STAGE as DEDUP_PARQUET
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.stages.stage import Stage

DESCRIPTION = """
Download, resize and pack images into webdataset shards.

Each image is resized to 256 pixels and stored with its caption and metadata, in the file layout and with the options of
img2dataset.

* **Partition**: one shard, the rows of one row group of `dedup_parquet`; a rerun skips complete shards
* **Output**: `image_shards/00000.tar`, `00000.parquet` (every row with its outcome), `00000_stats.json`, `00000.idx`
  (index of the tar for DALI and NeMo Curator)
* **Invariant**: input rows = images in the tar + failed rows by reason
* **Retry**: the run config `retry: failed` downloads the failed rows of complete shards again and merges the new images
* **Security**: http and https only. Every resolved address must be public, also those of redirects, and the connection
  goes to the address that was checked
* **Next**: several shards become one embedding file, about a hundred in `laion400m`
"""
FETCHED_COLUMNS = (
    "status",
    "reason",
    "error_message",
    "width",
    "height",
    "original_width",
    "original_height",
    "exif",
    "sha256",
)
"""Columns that describe what was downloaded from the URL."""


def byte_settings(dataset: Dataset) -> dict[str, Any]:
    """How images are downloaded, resized and encoded."""
    return settings_of(dataset.images)


def parquet_of_shard(layout: Layout, shard: int) -> range:
    """The parquet file that holds the shard's rows."""
    parquet = layout.parquet_of_shard(ShardNumber(shard))
    return range(parquet, parquet + 1)


STAGE = Stage(
    handle=ImageShards,
    description=DESCRIPTION,
    invariant="Input rows = images in the tar + failed rows by reason; each image has its caption and its json.",
    byte_settings=byte_settings,
    asset="laion_assets.stages.image_shards.asset:image_shards_asset",
    io_manager="laion_assets.stages.image_shards.io_manager:ImageShardsIOManager",
    check="laion_assets.stages.image_shards.check:find_problems",
    columns="laion_assets.stages.image_shards.asset:table_columns",
    column_inputs={"url": ("URL",), "caption": ("TEXT",), **dict.fromkeys(FETCHED_COLUMNS, ("URL",))},
    kinds=("python", "webdataset"),
    pool="network",
    upstream=lambda dataset: DEDUP_PARQUET,
    reads=parquet_of_shard,
    is_partitioned=True,
    partitions_per_run=lambda dataset: dataset.images.shards_per_run,
    hashes_before_skip=False,  # the tars of LAION-400M are 10 TB
    can_retry_rows=True,
    adopt="laion_assets.stages.image_shards.adoption.find:find_shards",
    settings_group="images",
    repeats="download",
    advise="laion_assets.stages.image_shards.advice:advise",
)
