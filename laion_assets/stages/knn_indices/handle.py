"""The handle of `knn_indices`."""

from dataclasses import dataclass

from laion_assets.dataset.layout import Layout
from laion_assets.stages.handle import Handle

KNN_INDICES = "knn_indices"


@dataclass(frozen=True)
class KnnIndices(Handle):
    """clip-retrieval's index folder: `image.index`, `text.index`, `image.json`, `text.json`, `metadata/`."""

    asset = KNN_INDICES

    @classmethod
    def paths(cls, layout: Layout, key: str) -> tuple[str, ...]:
        names = ("image.index", "text.index", "image.json", "text.json", "indices_paths.json")
        metadata = [f"metadata/metadata_{layout.embedding_key(each)}.parquet" for each in layout.embedding_numbers]
        return tuple(f"{KNN_INDICES}/{name}" for name in (*names, *metadata))
