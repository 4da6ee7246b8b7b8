"""The IO manager of the downloaded crawl CSVs."""

import dagster as dg

from laion_assets.orchestration.partition_io import Metadata, PartitionIOManager
from laion_assets.orchestration.ui.metadata_values import table
from laion_assets.plain_text import one_line
from laion_assets.stages.raw_csv.handle import RAW_CSV
from laion_assets.store.manifest import Manifest

_NAMED = 20


class RawCsvIOManager(PartitionIOManager):
    """Returns `RawCsv`."""

    asset = RAW_CSV

    def describe(self, partition: int, manifest: Manifest) -> Metadata:
        """Files by change since the commit before, and files deleted at source."""
        changes = manifest.details.get("changes", {})
        metadata: Metadata = {
            f"files_{one_line(change)}": dg.MetadataValue.int(count) for change, count in changes.items()
        }
        deleted_at_source = manifest.details.get("deleted_at_source", {})
        if deleted_at_source:
            metadata["deleted_at_source"] = table(("file", "noticed"), sorted(deleted_at_source.items()), _NAMED)
        return metadata
