"""The embeddings that the indices are built from: all files, with the same model and width.

An index over a mix of models would return wrong results.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets.errors import EmbeddingError, IntegrityError, ModelError
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS, ClipEmbeddings
from laion_assets.stages.knn_indices.details import MAX_WIDTH
from laion_assets.stages.status import require_complete
from laion_assets.store.manifest import Manifest
from laion_assets.store.store import Store

__all__ = ["CLIP_EMBEDDINGS", "ClipEmbeddings", "Embeddings", "read_coherent_embeddings"]


@dataclass(frozen=True)
class Embeddings:
    """All embedding files of a dataset, all of one model: its identity, the width, the manifests in order."""

    layout: Layout
    model: str
    width: int
    manifests: tuple[Manifest, ...]

    @property
    def rows(self) -> int:
        """Number of vectors of all files, per modality."""
        return sum(manifest.counts.rows_out for manifest in self.manifests)


def read_coherent_embeddings(dataset: Dataset, store: Store) -> Embeddings:
    """Return all embedding files of the dataset.

    Raises IncompleteError naming the files that are not committed, ModelError naming those of another model than the
    rest, and EmbeddingError naming those of another width.
    """
    handle = ClipEmbeddings(store, dataset.layout, tuple(dataset.layout.embedding_numbers))
    require_complete(dataset, handle)
    manifests = tuple(handle.manifests())
    for manifest in manifests:
        model_and_width(manifest)
    model, width = [_majority([manifest.details.get(name) for manifest in manifests]) for name in ("model", "width")]
    odd = [manifest for manifest in manifests if manifest.details.get("model") != model]
    if odd:
        raise ModelError(
            f"The embedding files of {dataset.name} were built with different models: {_list_keys(odd, 'model')}; the "
            f"others with {model}. Materialize these partitions of {dataset.name}/{handle.asset} again, or all of them."
        )
    odd = [manifest for manifest in manifests if manifest.details.get("width") != width]
    if odd:
        raise EmbeddingError(
            f"The embedding files of {dataset.name} have different widths: {_list_keys(odd, 'width')}; the others "
            f"{width}. Materialize these partitions of {dataset.name}/{handle.asset} again."
        )
    return Embeddings(dataset.layout, str(model), int(width), manifests)


def model_and_width(manifest: Manifest) -> tuple[str, int]:
    """Read the model and the width of an embedding file's vectors from its manifest. Raises IntegrityError."""
    model, width = manifest.details.get("model"), manifest.details.get("width")
    if not isinstance(model, str) or type(width) is not int or not 1 <= width <= MAX_WIDTH:
        raise IntegrityError(
            f"The manifest of {manifest.asset} {manifest.key} is damaged (model or width). Materialize this partition "
            "again."
        )
    return model, width


def _majority(values: Sequence[Any]) -> Any:
    return Counter(values).most_common(1)[0][0]


def _list_keys(manifests: Sequence[Manifest], detail: str) -> str:
    named = ", ".join(f"{manifest.key} ({manifest.details.get(detail)})" for manifest in manifests[:10])
    return f"{named} and {len(manifests) - 10} more" if len(manifests) > 10 else named
