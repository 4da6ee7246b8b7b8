"""The stage `clip_embeddings`: CLIP embeddings of images and captions."""

from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import EmbeddingNumber
from laion_assets.models.weights import weights_identity
from laion_assets.stages.clip_embeddings.handle import ClipEmbeddings
from laion_assets.stages.image_shards.stage import STAGE as IMAGE_SHARDS
from laion_assets.stages.stage import Stage

EMBEDDING_VERSION = 3
"""Increased when the bytes of embedding files change for the same model and shards."""

DESCRIPTION = """
Compute CLIP embeddings of every image and caption.

* **Partition**: one embedding file, the samples of several shards in shard order, of about a hundred in `laion400m`;
  row i of each of its files is the same sample
* **Output**: `clip_embeddings/img_emb/`, `text_emb/` (float16, rows of norm 1) and `metadata/`, in clip-retrieval's
  layout
* **Invariant**: npy rows = parquet rows = images in the tars - undecodable images (counted)
* **Next**: all files together become the indices of `knn_indices`; the id in an index is the row in their concatenation
"""


def byte_settings(dataset: Dataset) -> dict[str, Any]:
    """The model and the version of the format."""
    return {"model": weights_identity(dataset.model), "format": EMBEDDING_VERSION}


STAGE = Stage(
    handle=ClipEmbeddings,
    description=DESCRIPTION,
    invariant=(
        "npy rows = parquet rows = images in the tars - undecodable; rows are finite, of norm 1 and in shard order."
    ),
    byte_settings=byte_settings,
    asset="laion_assets.stages.clip_embeddings.asset:clip_embeddings_asset",
    io_manager="laion_assets.stages.clip_embeddings.io_manager:ClipEmbeddingsIOManager",
    check="laion_assets.stages.clip_embeddings.check:find_problems",
    columns="laion_assets.stages.clip_embeddings.asset:table_columns",
    column_inputs={"image_path": ("key",), "clip_similarity": ("key", "caption")},
    kinds=("pytorch", "numpy"),
    pool="gpu",
    upstream=lambda dataset: IMAGE_SHARDS,
    reads=lambda layout, embedding: layout.shards_of_embedding(EmbeddingNumber(embedding)),
    is_partitioned=True,
    partitions_per_run=lambda dataset: dataset.embeddings.run_size,
    adopt="laion_assets.stages.clip_embeddings.adoption.find:find_embedding_files",
    adopted_settings=lambda dataset: {"model": weights_identity(dataset.model)},
    settings_group="embeddings",
    repeats="encode",
    layout_counts=("parquet_files", "shards", "embedding_files"),
)
