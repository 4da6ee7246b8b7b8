"""The stage `dedup_parquet`: unique rows."""

from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.settings.field import byte_settings as settings_of
from laion_assets.stages.dedup_parquet.handle import DedupParquet
from laion_assets.stages.published_parquet.stage import STAGE as PUBLISHED_PARQUET
from laion_assets.stages.raw_csv.stage import STAGE as RAW_CSV
from laion_assets.stages.stage import Stage
from laion_assets.tables.table_limits import TableLimits

UID_VERSION = 1
"""Increased when the identity or the order of rows changes, so that older parquet files count as stale."""

DESCRIPTION = """
Keep one row for each pair of URL and caption, with Spark.

Columns are aligned by name, since the files' headers differ. Malformed rows are quarantined with their reason. Of all
rows with the same `uid` (md5 of URL and caption) the one with the highest similarity is kept, then the lowest
SAMPLE_ID. The dataset's filters (`dedup.where`) apply before that; a filtered row is counted by its filter.

* **Partition**: one range of the uid's hash space, sorted by uid; the same input produces the same bytes, built
  alone or not
* **Output**: `dedup_parquet/KEY.parquet`, one row group per shard, and `dedup_rejects/KEY.parquet`
* **Invariant**: rows read = rows kept + duplicates + rows quarantined or filtered by reason
* **Next**: each row group becomes one shard of `image_shards`
"""


def byte_settings(dataset: Dataset) -> dict[str, Any]:
    """How rows are read and normalized, the filters, and the partition counts; filters and limits only where set."""
    settings, layout = dataset.dedup, dataset.layout
    values = {**settings_of(settings), "uid": UID_VERSION, "layout": [layout.parquet_files, layout.shards]}
    if settings.where.is_set:
        values["where"] = settings.where.values()
    if settings.limits != TableLimits():
        values["limits"] = settings_of(settings.limits)
    return values


STAGE = Stage(
    handle=DedupParquet,
    description=DESCRIPTION,
    invariant=(
        "Rows read = rows kept + duplicates + rejects by reason; uids are right, unique, sorted and in their range."
    ),
    byte_settings=byte_settings,
    asset="laion_assets.stages.dedup_parquet.asset:dedup_parquet_asset",
    io_manager="laion_assets.stages.dedup_parquet.io_manager:DedupParquetIOManager",
    check="laion_assets.stages.dedup_parquet.check:find_problems",
    columns="laion_assets.stages.dedup_parquet.asset:table_columns",
    column_inputs={"uid": ("URL", "TEXT")},
    kinds=("pyspark", "parquet"),
    pool="spark",
    upstream=lambda dataset: PUBLISHED_PARQUET if dataset.published else RAW_CSV,
    is_partitioned=True,
    settings_group="dedup",
    advise="laion_assets.stages.dedup_parquet.advice:advise",
)
