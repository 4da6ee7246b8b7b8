"""The IO manager of the fetched crawl CSVs."""

import dagster as dg

from laion_assets.commit.manifest import Manifest
from laion_assets.handles import RAW_CSV
from laion_assets.io_managers.partition_io import Metadata, PartitionIOManager

_NAMED = 20


class RawCsvIOManager(PartitionIOManager):
    """Hands over `RawCsv`."""

    asset = RAW_CSV

    def describe(self, partition: int, manifest: Manifest) -> Metadata:
        """What the last fetch that published found, against the one before, and what the source no longer has."""
        changes = manifest.details.get("changes", {})
        metadata: Metadata = {f"files_{change}": dg.MetadataValue.int(count) for change, count in changes.items()}
        vanished = manifest.details.get("vanished", {})
        if vanished:
            rows = "\n".join(f"| {path} | {since} |" for path, since in sorted(vanished.items())[:_NAMED])
            more = f"\n\nand {len(vanished) - _NAMED:,} more" if len(vanished) > _NAMED else ""
            metadata["vanished_at_the_source"] = dg.MetadataValue.md(f"| file | noticed |\n|---|---|\n{rows}{more}")
        return metadata
