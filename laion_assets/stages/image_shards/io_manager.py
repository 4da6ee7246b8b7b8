"""The IO manager of the image shards."""

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import ShardNumber
from laion_assets.orchestration.partition_io import Metadata, PartitionIOManager
from laion_assets.orchestration.ui.links import partition_link
from laion_assets.orchestration.ui.metadata_values import images, table, text
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET, DedupParquet
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS, ImageShards
from laion_assets.stages.registry import next_stage
from laion_assets.store.manifest import Manifest

SHEETS_A_RUN = 24
"""Shards of a run whose contact sheet goes into the event log: each takes about 20 KB there."""

_EXAMPLE_ROWS = 5
_EXAMPLE_COLUMNS = ("key", "caption", "reason")
RETRIES_SHOWN = 10
"""Retries of a shard in its metadata, the last ones; the manifest has all."""


class ImageShardsIOManager(PartitionIOManager):
    """Returns `ImageShards`; shows a contact sheet of images that are tagged UNLIKELY to be unsafe."""

    asset = IMAGE_SHARDS

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self._sheets = 0

    def describe(self, partition: int, manifest: Manifest) -> Metadata:
        """A contact sheet and example rows, links to its rows and embeddings, rates, and the history of retries."""
        layout = self.dataset.layout
        counts = manifest.counts
        shard = ShardNumber(partition)
        parquet, embedding = layout.parquet_of_shard(shard), layout.embedding_of_shard(shard)
        embeddings = next_stage(IMAGE_SHARDS, self.dataset).name
        metadata: Metadata = self._examples(shard) if counts.rows_out else {}
        metadata |= {
            DEDUP_PARQUET: partition_link(self.dataset, DEDUP_PARQUET, layout.parquet_key(parquet)),
            embeddings: partition_link(self.dataset, embeddings, layout.embedding_key(embedding)),
            "rows_from": text(f"row group {layout.row_group_of_shard(shard)} of {DedupParquet.path(layout, parquet)}"),
        }
        if manifest.seconds and not manifest.is_adopted:
            metadata["images_per_s"] = dg.MetadataValue.float(round(counts.rows_out / manifest.seconds, 2))
        if counts.rows_in:
            metadata["success_rate"] = dg.MetadataValue.float(round(counts.rows_out / counts.rows_in, 4))
        if retries := manifest.details.get("retries"):
            metadata["retries"] = table(
                ("when", "retried", "recovered", "reasons"),
                [
                    (one["at"], one["retried"], one["recovered"], _format_counts(one["reasons"]))
                    for one in retries[-RETRIES_SHOWN:]
                ],
            )
        return metadata

    def _examples(self, shard: ShardNumber) -> Metadata:
        """A contact sheet and the first rows, for the first SHEETS_A_RUN shards of a run."""
        if self._sheets >= SHEETS_A_RUN:
            return {}
        self._sheets += 1
        import pyarrow.parquet as pq

        from laion_assets.search.shard_images import shard_contact_sheet

        layout, metadata = self.dataset.layout, Metadata()
        show_untagged = self.dataset.search_report.show_untagged
        sheet = shard_contact_sheet(self.store, ImageShards.path(layout, shard, ".tar"), show_untagged=show_untagged)
        if sheet:
            metadata["images"] = images([("images", "image/jpeg", sheet)])
        with self.store.open(ImageShards.path(layout, shard, ".parquet")) as file:
            parquet = pq.ParquetFile(file)
            names = [name for name in _EXAMPLE_COLUMNS if name in parquet.schema_arrow.names]
            batch = next(parquet.iter_batches(batch_size=_EXAMPLE_ROWS, columns=names), None)
        rows = [] if batch is None else batch.to_pylist()
        if rows:
            metadata["example_rows"] = table(names, [[row[name] for name in names] for row in rows])
        return metadata


def _format_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
