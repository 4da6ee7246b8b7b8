"""The IO manager of the embedding files."""

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import EmbeddingNumber
from laion_assets.orchestration.partition_io import Metadata, PartitionIOManager
from laion_assets.orchestration.ui.links import range_link
from laion_assets.orchestration.ui.metadata_values import images, table, text
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS, ClipEmbeddings
from laion_assets.stages.clip_embeddings.recorded_similarity import (
    SimilarityComparison,
    compare_similarity,
    describe_comparison,
)
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.store.manifest import Manifest

PLOTS_A_RUN = 24
"""Files of a run whose plot goes into the event log: each takes about 25 KB there."""
_EXAMPLE_ROWS = 5


class ClipEmbeddingsIOManager(PartitionIOManager):
    """Returns `ClipEmbeddings`; shows the shards of a file, its first rows and the comparison of its similarities."""

    asset = CLIP_EMBEDDINGS

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self._plots = 0

    def describe(self, partition: int, manifest: Manifest) -> Metadata:
        """Example rows, a link to its shards, the model, samples/s, and the comparison with the crawl's similarity."""
        import pyarrow.parquet as pq

        layout = self.dataset.layout
        embedding = EmbeddingNumber(partition)
        shards = layout.shards_of_embedding(embedding)
        first, last = layout.shard_key(shards[0]), layout.shard_key(shards[-1])
        shown: Metadata = {IMAGE_SHARDS: range_link(self.dataset, IMAGE_SHARDS, first, last)}
        metadata: Metadata = {
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
            compared = compare_similarity(file)
        rows = batch.to_pylist() if batch is not None else []
        if rows:
            shown = {"example_rows": table(names, [[row[name] for name in names] for row in rows]), **shown}
        return {**shown, **metadata, **self._describe_similarity(compared)}

    def _describe_similarity(self, compared: SimilarityComparison | None) -> Metadata:
        """The comparison of the rows' cosines with those of the crawl: counts, differences and a plot."""
        figures = None if compared is None else compared.details
        metadata: Metadata = {"recorded_similarity": text(describe_comparison(figures))}
        if compared is None or not figures or not figures["rows"]:
            return metadata
        metadata["similarity_rows_compared"] = dg.MetadataValue.int(figures["rows"])
        metadata["similarity_rows_differing"] = dg.MetadataValue.int(figures["differing"])
        for name in ("mean_difference", "median_difference"):
            metadata[f"similarity_{name}"] = dg.MetadataValue.float(figures[name])
        if self._plots < PLOTS_A_RUN:
            self._plots += 1
            title = "Similarity of image and caption: today's model and the crawl"
            metadata["similarity_plot"] = images([(title, "image/svg+xml", compared.plot().encode())])
        return metadata
