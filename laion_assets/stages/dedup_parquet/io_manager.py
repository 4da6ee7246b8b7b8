"""The IO manager of the deduplicated parquet files."""

from laion_assets.dataset.layout import ParquetNumber
from laion_assets.orchestration.partition_io import Metadata, PartitionIOManager
from laion_assets.orchestration.ui.links import range_link
from laion_assets.orchestration.ui.metadata_values import table
from laion_assets.plain_text import one_line
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET, DedupParquet
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.store.manifest import Manifest

_EXAMPLE_ROWS = 5
_EXAMPLE_CHARS = 60
_EXAMPLE_COLUMNS = ("uid", "URL", "TEXT", "NSFW", "similarity")


class DedupParquetIOManager(PartitionIOManager):
    """Returns `DedupParquet`; shows the shards of a file and its first rows."""

    asset = DEDUP_PARQUET

    def describe(self, partition: int, manifest: Manifest) -> Metadata:
        """The shards of this file's row groups, a link to them, and example rows."""
        layout = self.dataset.layout
        shards = layout.shards_of_parquet(ParquetNumber(partition))
        rows = DedupParquet.of(self.dataset, (partition,)).shard_rows(shards.start).slice(0, _EXAMPLE_ROWS)
        examples = [[_short(value) for value in row.values()] for row in rows.select(_EXAMPLE_COLUMNS).to_pylist()]
        first, last = layout.shard_key(shards[0]), layout.shard_key(shards[-1])
        metadata: Metadata = {"example_rows": table(_EXAMPLE_COLUMNS, examples)} if examples else {}
        return {**metadata, IMAGE_SHARDS: range_link(self.dataset, IMAGE_SHARDS, first, last)}


def _short(value: object) -> str | float:
    if isinstance(value, float):
        return round(value, 4)
    return "" if value is None else one_line(value, _EXAMPLE_CHARS)
