"""The IO manager of the embedding files."""

import dagster as dg

from laion_assets.commit.manifest import Manifest
from laion_assets.handles import CLIP_EMBEDDINGS, ClipEmbeddings
from laion_assets.io_managers.partition_io import Metadata, PartitionIOManager

_EXAMPLE_ROWS = 5


class ClipEmbeddingsIOManager(PartitionIOManager):
    """Hands over `ClipEmbeddings`; shows the shards a file covers and its first rows."""

    asset = CLIP_EMBEDDINGS

    def describe(self, partition: int, manifest: Manifest) -> Metadata:
        """The shards, the model, and example rows."""
        import pyarrow.parquet as pq

        layout = self.dataset.layout
        shards = layout.shards_of_embedding(partition)
        metadata: Metadata = {
            "shards": dg.MetadataValue.text(f"{layout.shard_key(shards[0])} to {layout.shard_key(shards[-1])}"),
            **{
                name: dg.MetadataValue.text(str(manifest.details[name]))
                for name in ("model", "width", "device", "precision")
                if name in manifest.details
            },
        }
        with self.store.open(ClipEmbeddings.path(layout, partition, "metadata")) as file:
            table = pq.ParquetFile(file)
            names = [
                name for name in ("image_path", "uid", "caption", "similarity") if name in table.schema_arrow.names
            ]
            batch = next(table.iter_batches(batch_size=_EXAMPLE_ROWS, columns=names), None)
        rows = batch.to_pylist() if batch is not None else []
        if rows:
            metadata["example_rows"] = dg.MetadataValue.table(
                [dg.TableRecord({name: "" if row[name] is None else row[name] for name in names}) for row in rows]
            )
        return metadata
