"""The stage `knn_indices`: indices for similarity search."""

from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.settings.field import byte_settings as settings_of
from laion_assets.stages.clip_embeddings.stage import STAGE as CLIP_EMBEDDINGS
from laion_assets.stages.knn_indices.handle import KnnIndices
from laion_assets.stages.stage import Stage

DESCRIPTION = """
Build faiss indices over the image and text embeddings.

autofaiss builds one index over all image embeddings and one over all caption embeddings. Both can be memory-mapped.

* **Output**: `knn_indices/image.index`, `text.index`, their measurements, and the metadata: `clip-retrieval back` and
  `laion-assets search` open this folder
* **Invariant**: vectors in an index = rows of all embedding files; an id is the row in their concatenation
* **Measured**: size, recall@10 against exact search, milliseconds per query
"""


def byte_settings(dataset: Dataset) -> dict[str, Any]:
    """The limits within which autofaiss chooses an index."""
    return settings_of(dataset.index)


STAGE = Stage(
    handle=KnnIndices,
    description=DESCRIPTION,
    invariant=(
        "Vectors in each index = rows of all embedding files, and an index's id is the row in their concatenation."
    ),
    byte_settings=byte_settings,
    asset="laion_assets.stages.knn_indices.asset:knn_indices_asset",
    io_manager="laion_assets.stages.knn_indices.io_manager:KnnIndicesIOManager",
    check="laion_assets.stages.knn_indices.check:find_problems",
    kinds=("faiss",),
    upstream=lambda dataset: CLIP_EMBEDDINGS,
    settings_group="index",
)
