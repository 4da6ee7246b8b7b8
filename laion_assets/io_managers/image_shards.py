"""The IO manager of the image shards."""

import base64

import dagster as dg

from laion_assets.commit.manifest import Manifest
from laion_assets.datasets import Dataset
from laion_assets.handles import IMAGE_SHARDS, ImageShards
from laion_assets.io_managers.partition_io import Metadata, PartitionIOManager

SHEETS_A_RUN = 24
"""Contact sheets are put into the event log of the first shards of a run only: each is some 20 KB there."""

RETRIES_SHOWN = 10
"""The last retries of a shard, in its metadata; the manifest has all."""


class ImageShardsIOManager(PartitionIOManager):
    """Hands over `ImageShards`; shows a contact sheet of pictures that are tagged UNLIKELY to be unsafe."""

    asset = IMAGE_SHARDS

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self._sheets = 0

    def describe(self, partition: int, manifest: Manifest) -> Metadata:
        """Success rate, neighbours in the graph, the history of retries, and a contact sheet."""
        layout = self.dataset.layout
        counts = manifest.counts
        metadata: Metadata = {
            "dedup_parquet": dg.MetadataValue.text(layout.parquet_key(layout.parquet_of_shard(partition))),
            "clip_embeddings": dg.MetadataValue.text(layout.embedding_key(layout.embedding_of_shard(partition))),
        }
        if counts.rows_in:
            metadata["success_rate"] = dg.MetadataValue.float(round(counts.rows_out / counts.rows_in, 4))
        if retries := manifest.details.get("retries"):
            rows = "".join(
                f"\n| {one['at']} | {one['retried']:,} | {one['recovered']:,} | {_listed(one['reasons'])} |"
                for one in retries[-RETRIES_SHOWN:]
            )
            metadata["retries"] = dg.MetadataValue.md(
                f"| when | retried | recovered | reasons |\n|---|---:|---:|---|{rows}"
            )
        if counts.rows_out and self._sheets < SHEETS_A_RUN:
            from laion_assets.search.shard_pictures import shard_contact_sheet

            self._sheets += 1
            sheet = shard_contact_sheet(self.store, ImageShards.path(layout, partition, ".tar"))
            if sheet:
                picture = base64.b64encode(sheet).decode()
                metadata["pictures"] = dg.MetadataValue.md(f"![pictures](data:image/jpeg;base64,{picture})")
        return metadata


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
