"""The IO manager of the embedding files."""

import dagster as dg

from laion_assets.dataset.layout import EmbeddingNumber
from laion_assets.orchestration.partition_io import Metadata, PartitionIOManager
from laion_assets.orchestration.ui.links import range_link
from laion_assets.orchestration.ui.metadata_values import table, text
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS, ClipEmbeddings
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.store.manifest import Manifest

_EXAMPLE_ROWS = 5


class ClipEmbeddingsIOManager(PartitionIOManager):
    """Returns `ClipEmbeddings`; shows the shards of a file and its first rows."""

    asset = CLIP_EMBEDDINGS

    def describe(self, partition: int, manifest: Manifest) -> Metadata:
        """A link to its shards, samples/s, the model, and example rows."""
        import pyarrow.parquet as pq

        layout = self.dataset.layout
        embedding = EmbeddingNumber(partition)
        shards = layout.shards_of_embedding(embedding)
        first, last = layout.shard_key(shards[0]), layout.shard_key(shards[-1])
        metadata: Metadata = {
            IMAGE_SHARDS: range_link(self.dataset, IMAGE_SHARDS, first, last),
            "shards": text(f"{first} to {last}"),
            **{
                name: text(manifest.details[name])
                for name in ("model", "width", "device", "precision")
                if name in manifest.details
            },
        }
        if manifest.seconds and not manifest.is_adopted:
            rate = manifest.counts.rows_out / manifest.seconds
            metadata["samples_per_s"] = dg.MetadataValue.float(round(rate, 2))
        with self.store.open(ClipEmbeddings.path(layout, embedding, "metadata")) as file:
            parquet = pq.ParquetFile(file)
            names = [
                name for name in ("image_path", "uid", "caption", "similarity") if name in parquet.schema_arrow.names
            ]
            batch = next(parquet.iter_batches(batch_size=_EXAMPLE_ROWS, columns=names), None)
        rows = batch.to_pylist() if batch is not None else []
        if rows:
            metadata["example_rows"] = table(names, [[row[name] for name in names] for row in rows])
        return metadata
