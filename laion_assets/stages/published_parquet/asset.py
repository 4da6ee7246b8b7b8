"""The asset `published_parquet`: an external asset, which a run observes."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.declaration import common_declaration, run_logger
from laion_assets.stages.published_parquet.stage import STAGE
from laion_assets.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa


def published_parquet_asset(dataset: Dataset) -> Any:
    """Return `published_parquet` of a dataset."""

    declared = common_declaration(STAGE, dataset)
    kinds = {f"dagster/kind/{kind}": "" for kind in STAGE.kinds}

    @dg.observable_source_asset(**{**declared, "tags": {**declared["tags"], **kinds}})
    @own_errors_first
    def published_parquet(context: dg.OpExecutionContext) -> dg.ObserveResult:
        from laion_assets.stages.published_parquet.build import observe_published
        from laion_assets.stages.published_parquet.io_manager import PublishedParquetIOManager

        manifest = observe_published(dataset, Store.of(dataset), run_logger(context))
        return dg.ObserveResult(
            data_version=dg.DataVersion(manifest.content),
            metadata=PublishedParquetIOManager(dataset).build_metadata(0, manifest),
        )

    return published_parquet


def table_columns(dataset: Dataset) -> "pa.Schema":
    """The columns that are read, where a file has them."""
    import pyarrow as pa

    from laion_assets.tables.columns import DEDUP_SCHEMA, WANTED_COLUMNS

    return pa.schema([DEDUP_SCHEMA.field(name) for name in WANTED_COLUMNS])
