"""The stage `published_parquet`: parquet metadata that others published."""

from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.stages.published_parquet.handle import PublishedParquet
from laion_assets.stages.stage import Stage

DESCRIPTION = """
Observe parquet metadata that others published.

One row for each image found on a web page, with its caption and CLIP similarity. This is an external asset: the files
are read in place and not copied. An observation records their names, sizes, versions and footers, so that a changed
file is noticed. Observe it before the first run.

* **Input**: the dataset's `published`: files, folders or patterns on a disk, an object store, the web or a hub
* **Output**: `published_parquet/files.json`, the list of observed files
* **Invariant**: every file that was observed is unchanged
* **Next**: `dedup_parquet` reads all of them in place, column by column name
"""


def byte_settings(dataset: Dataset) -> dict[str, Any]:
    """The settings that select the files."""
    return {"published": list(dataset.published)}


STAGE = Stage(
    handle=PublishedParquet,
    description=DESCRIPTION,
    invariant="Every published file is the one that was observed, by its size and version or by its footer.",
    byte_settings=byte_settings,
    asset="laion_assets.stages.published_parquet.asset:published_parquet_asset",
    io_manager="laion_assets.stages.published_parquet.io_manager:PublishedParquetIOManager",
    check="laion_assets.stages.published_parquet.check:find_problems",
    columns="laion_assets.stages.published_parquet.asset:table_columns",
    kinds=("parquet",),
    applies_to=lambda dataset: bool(dataset.published),
    find_changes="laion_assets.stages.published_parquet.changes:find_changes",
    observe="laion_assets.stages.published_parquet.build:observe_published",
    unit="files",
)
