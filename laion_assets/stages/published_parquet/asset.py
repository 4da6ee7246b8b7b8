"""The asset `published_parquet`: not made here, observed."""

from typing import Any

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.declaration import asset_key, run_logger
from laion_assets.stages.handles import PUBLISHED_PARQUET
from laion_assets.store.store import Store

DESCRIPTION = """
Metadata that others have published as parquet files: one row a picture found on a page, with its caption and CLIP
similarity. An external asset: the files are not made here and not copied. An observation looks at them (names, sizes,
versions, footers) and notes what is there, so that a changed file is noticed; observe it before the first run.

* **from**: the dataset's `published`: files, folders or patterns on a disk, an object store, the web, the hub
* **into**: `published_parquet/files.json`, the list of what was seen
* **next**: `dedup_parquet` reads all of them in place, by the names of their columns, as it reads crawl CSVs
"""


def published_parquet_asset(dataset: Dataset) -> Any:
    """`published_parquet` of a dataset."""
    from laion_assets.orchestration.ui.column_schemas import source_columns

    @dg.observable_source_asset(
        key=asset_key(dataset, PUBLISHED_PARQUET),
        group_name=dataset.name,
        tags={"dagster/kind/parquet": ""},
        description=DESCRIPTION,
        io_manager_key=f"{PUBLISHED_PARQUET}_io_manager",
        metadata={"dagster/column_schema": source_columns()},
    )
    @own_errors_first
    def published_parquet(context: dg.OpExecutionContext) -> dg.ObserveResult:
        from laion_assets.stages.published_parquet.build import observe_published
        from laion_assets.stages.published_parquet.io_manager import PublishedParquetIOManager

        manifest = observe_published(dataset, Store.of(dataset), run_logger(context))
        return dg.ObserveResult(
            data_version=dg.DataVersion(manifest.content),
            metadata=PublishedParquetIOManager(dataset).metadata_of(0, manifest),
        )

    return published_parquet
