"""The asset `dedup_parquet`."""

from typing import TYPE_CHECKING

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.declaration import declaration, run_logger, run_partitions
from laion_assets.orchestration.reporting import Reporting, reported_output
from laion_assets.orchestration.resource_keys import require_resources
from laion_assets.orchestration.resources.spark import SparkResource
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET, DedupParquet
from laion_assets.stages.dedup_parquet.stage import STAGE
from laion_assets.stages.handle import Handle
from laion_assets.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa


def dedup_parquet_asset(dataset: Dataset) -> dg.AssetsDefinition:
    """Return `dedup_parquet` of a dataset."""

    @dg.asset(**declaration(STAGE, dataset))
    @require_resources(dataset)
    @own_errors_first
    def dedup_parquet(
        context: dg.AssetExecutionContext, upstream: Handle, spark: SparkResource
    ) -> dg.Output[DedupParquet]:
        from laion_assets.stages.dedup_parquet.build import build_dedup_parquet
        from laion_assets.stages.dedup_parquet.io_manager import DedupParquetIOManager
        from laion_assets.stages.stored_layout import prepare_store

        partitions, log = run_partitions(context, dataset, DEDUP_PARQUET), run_logger(context)
        prepare_store(dataset, DEDUP_PARQUET, partitions, log)
        with Reporting(context, DedupParquetIOManager(dataset), partitions) as report:
            manifests = build_dedup_parquet(spark.session(), dataset, Store.of(dataset), partitions, log)
            for partition, manifest in zip(partitions, manifests, strict=True):
                report(partition, manifest)
        return reported_output(DedupParquet.of(dataset, partitions))

    return dedup_parquet


def table_columns(dataset: Dataset) -> "pa.Schema":
    """The columns of a parquet file."""
    from laion_assets.tables.columns import DEDUP_SCHEMA, with_kept

    return with_kept(DEDUP_SCHEMA, dataset.dedup.kept)
