"""The IO manager of the deduplicated parquet files."""

import dagster as dg

from laion_assets.commit.manifest import Manifest
from laion_assets.handles import DEDUP_PARQUET, IMAGE_SHARDS, DedupParquet
from laion_assets.io_managers.links import range_link
from laion_assets.io_managers.partition_io import Metadata, PartitionIOManager

_EXAMPLE_ROWS = 5
_EXAMPLE_CHARS = 60


class DedupParquetIOManager(PartitionIOManager):
    """Hands over `DedupParquet`; shows the shards a file holds and its first rows."""

    asset = DEDUP_PARQUET

    def describe(self, partition: int, manifest: Manifest) -> Metadata:
        """The shards that this file's row groups become, a link to them, and example rows."""
        layout = self.dataset.layout
        shards = layout.shards_of_parquet(partition)
        rows = DedupParquet.of(self.dataset, (partition,)).shard_rows(shards.start).slice(0, _EXAMPLE_ROWS)
        records = [
            dg.TableRecord({name: _short(value) for name, value in row.items()})
            for row in rows.select(["uid", "URL", "TEXT", "NSFW", "similarity"]).to_pylist()
        ]
        first, last = layout.shard_key(shards[0]), layout.shard_key(shards[-1])
        metadata: Metadata = {
            IMAGE_SHARDS: range_link(self.dataset, IMAGE_SHARDS, first, last),
            "shards": dg.MetadataValue.text(f"{first} to {last}"),
        }
        if records:
            metadata["example_rows"] = dg.MetadataValue.table(records)
        return metadata


def _short(value: object) -> str | float:
    if isinstance(value, float):
        return round(value, 4)
    text = "" if value is None else str(value)
    return text if len(text) <= _EXAMPLE_CHARS else text[: _EXAMPLE_CHARS - 1] + "…"
