"""The IO manager of published parquet files."""

import dagster as dg

from laion_assets.orchestration.partition_io import Metadata, PartitionIOManager
from laion_assets.orchestration.ui.metadata_values import table
from laion_assets.stages.published_parquet.handle import PUBLISHED_PARQUET
from laion_assets.store.manifest import Manifest

_SHOWN = 50


class PublishedParquetIOManager(PartitionIOManager):
    """Returns `PublishedParquet`; shows the files of the last observation."""

    asset = PUBLISHED_PARQUET

    def describe(self, partition: int, manifest: Manifest) -> Metadata:
        """Files, rows and bytes, and the first files."""
        from laion_assets.stages.published_parquet.build import read_list

        files = read_list(self.store)
        return {
            "dagster/row_count": dg.MetadataValue.int(sum(file.rows for file in files)),
            "parquet_files": dg.MetadataValue.int(len(files)),
            "parquet_bytes": dg.MetadataValue.int(sum(file.size for file in files)),
            "parquet": table(
                ("file", "rows", "bytes", "footer"),
                [(file.url, file.rows, file.size, file.footer[:12]) for file in files],
                _SHOWN,
            ),
        }
