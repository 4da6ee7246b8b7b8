"""The asset `dedup_parquet`."""

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.declaration import declaration, edge, run_logger, run_partitions
from laion_assets.orchestration.reporting import Reporting, reported_output
from laion_assets.orchestration.resources.spark import SparkResource
from laion_assets.stages.handles import DEDUP_PARQUET, DedupParquet, Handle
from laion_assets.store.store import Store

DESCRIPTION = """
Unique rows. Spark aligns the CSVs' drifting columns by name, keeps malformed rows apart with their reason, and of all
rows with one `uid` (md5 of url and caption) keeps the one of highest similarity, then lowest SAMPLE_ID. The dataset's
filters (`dedup.where`) come before that: a row that fails one is counted by it.

* **partition**: one range of the uid's hash space, sorted by uid; same input, same bytes, alone or together
* **into**: `dedup_parquet/KEY.parquet`, one row group a shard, and `dedup_rejects/KEY.parquet`
* **law**: rows read = rows kept + duplicates + quarantined and filtered by reason
* **next**: each row group becomes one shard
"""


def dedup_parquet_asset(dataset: Dataset) -> dg.AssetsDefinition:
    """`dedup_parquet` of a dataset."""
    from laion_assets.orchestration.ui.column_schemas import dedup_columns

    @dg.asset(
        **declaration(
            dataset,
            DEDUP_PARQUET,
            kinds={"pyspark", "parquet"},
            description=DESCRIPTION,
            pool="spark",
            ins=edge(dataset, DEDUP_PARQUET),
            metadata={"dagster/column_schema": dedup_columns()},
        )
    )
    @own_errors_first
    def dedup_parquet(
        context: dg.AssetExecutionContext, source: Handle, spark: SparkResource
    ) -> dg.Output[DedupParquet]:
        from laion_assets.stages.dedup_parquet.build import build_dedup_parquet
        from laion_assets.stages.dedup_parquet.io_manager import DedupParquetIOManager
        from laion_assets.stages.stored_layout import prepare_store

        partitions = run_partitions(context, dataset, DEDUP_PARQUET)
        prepare_store(dataset, DEDUP_PARQUET, partitions, run_logger(context))
        with Reporting(context, DedupParquetIOManager(dataset), partitions) as published:
            store, log = Store.of(dataset), run_logger(context)
            manifests = build_dedup_parquet(spark.session(), dataset, store, partitions, log)
            for partition, manifest in zip(partitions, manifests, strict=True):
                published(partition, manifest)
        return reported_output(DedupParquet.of(dataset, partitions))

    return dedup_parquet
