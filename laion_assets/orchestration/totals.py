"""The totals of a partitioned asset on its overview page in the Dagster UI.

The overview shows the latest materialization of an asset. For a partitioned asset that is one partition, which says
nothing about the others. So each run ends with a materialization without a partition, with the totals over all
committed partitions. It belongs to no run, because a backfill fails if one of its runs materializes a partitioned asset
without a partition. It changes no partition's state. Its metadata has names of its own, so that plots do not mix
totals with partitions.
"""

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.orchestration.declaration import asset_key
from laion_assets.orchestration.ui.metadata_values import description, table, text
from laion_assets.orchestration.ui.readable import readable_bytes, reason_rows, summarize_totals
from laion_assets.stages.registry import find_stage
from laion_assets.stages.totals import sum_partitions


def totals_event(dataset: Dataset, asset: str) -> dg.AssetMaterialization:
    """Return the materialization of an asset, without a partition, with the totals over its committed partitions.

    Reads the manifest of every partition of the asset.
    """
    totals = sum_partitions(dataset, asset)
    metadata: dict[str, dg.MetadataValue] = {
        "totals": text(summarize_totals(find_stage(asset), totals)),
        "dagster/row_count": dg.MetadataValue.int(totals.rows_out),
    }
    if rows := reason_rows(totals.reasons, totals.rows_in):
        metadata["total_dropped_by_reason"] = table(("reason", "rows", "share"), rows)
    metadata |= {
        "total_size": text(readable_bytes(totals.bytes)),
        "partitions_committed": dg.MetadataValue.int(totals.committed),
        "partitions_declared": dg.MetadataValue.int(totals.declared),
        "total_rows_in": dg.MetadataValue.int(totals.rows_in),
        "total_rows_out": dg.MetadataValue.int(totals.rows_out),
        "total_bytes": dg.MetadataValue.int(totals.bytes),
    }
    return dg.AssetMaterialization(
        asset_key=asset_key(dataset, asset),
        metadata=metadata,
        description=description("totals over all committed partitions"),
    )
