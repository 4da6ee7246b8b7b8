"""Vectors by id, memory-mapped from the embedding files that the indices were built from.

An index can return a vector by its id, too. But an inverted file needs a map of 8 bytes per vector for it (3 GB for
LAION-400M), and a compressed index returns an approximation. It is only used where the embedding files are not on a
local disk, or were rebuilt after the indices.
"""

import bisect
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from laion_assets.dataset.layout import Layout
from laion_assets.errors import EmbeddingError, IntegrityError
from laion_assets.stages.knn_indices.details import INPUTS, IndexDetails
from laion_assets.stages.knn_indices.inputs import CLIP_EMBEDDINGS, ClipEmbeddings
from laion_assets.stages.knn_indices.vectors import FOLDERS
from laion_assets.store.manifest import Manifest, read_manifest
from laion_assets.store.store import Store
from laion_assets.tables.vector_file import open_vectors

if TYPE_CHECKING:
    import numpy as np


class EmbeddingRows:
    """The vectors of one modality by id. Each file is opened when first needed, if its manifest is the index's."""

    def __init__(self, store: Store, layout: Layout, manifest: Manifest, details: IndexDetails, modality: str) -> None:
        self._store = store
        self._layout = layout
        self._folder = FOLDERS[modality]
        self._inputs: list[Any] = manifest.details.get(INPUTS, [])
        self._details = details
        self._starts = [0]
        for rows in details.rows:
            self._starts.append(self._starts[-1] + rows)
        self._files: dict[int, np.ndarray | None] = {}
        self._lock = threading.Lock()

    def rows(self, ids: Sequence[int]) -> "np.ndarray | None":
        """Return the vectors of these ids, (n, width) float32 of norm 1; None if a file cannot be used."""
        import numpy as np

        found = np.empty((len(ids), self._details.width), dtype=np.float32)
        by_file: dict[int, list[int]] = {}
        for position, row in enumerate(ids):
            by_file.setdefault(bisect.bisect_right(self._starts, row) - 1, []).append(position)
        for file, positions in by_file.items():
            vectors = self._open(file)
            if vectors is None:
                return None
            found[positions] = vectors[[ids[position] - self._starts[file] for position in positions]]
        norms = np.linalg.norm(found, axis=1, keepdims=True)
        return found / np.maximum(norms, 1e-12)

    def _open(self, file: int) -> "np.ndarray | None":
        with self._lock:
            if file not in self._files:
                self._files[file] = self._open_file(file)
            return self._files[file]

    def _open_file(self, file: int) -> "np.ndarray | None":
        number = self._layout.embedding_numbers[file]
        path = ClipEmbeddings.path(self._layout, number, self._folder)
        try:
            local = self._store.local_path(path)
            manifest = read_manifest(self._store, CLIP_EMBEDDINGS, self._layout.embedding_key(number))
            if local is None or manifest is None or not self._inputs:
                return None
            if manifest.entry(path).sha256 != self._inputs[file].get(self._folder):
                return None
            vectors = open_vectors(local, self._details.width, str(local))
        except (EmbeddingError, IntegrityError, OSError):
            return None
        return vectors if len(vectors) == self._details.rows[file] else None
