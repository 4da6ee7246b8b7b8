"""One committed version of a dataset's indices, open for searches from many threads."""

import contextlib
import hashlib
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import QueryError
from laion_assets.models.weights import weights_identity
from laion_assets.search.index.embedding_rows import EmbeddingRows
from laion_assets.search.index.metadata_rows import MetadataRows
from laion_assets.search.results.safety import TagCounts, is_shown, read_tags
from laion_assets.search.results.safety_model import SafetyModel
from laion_assets.stages.knn_indices.details import IndexDetails
from laion_assets.stages.knn_indices.handle import KnnIndices
from laion_assets.stages.knn_indices.index_file import open_index
from laion_assets.stages.knn_indices.vectors import MODALITIES
from laion_assets.store.manifest import Manifest
from laion_assets.store.store import Store

if TYPE_CHECKING:
    import numpy as np


class IndexVersion:
    """The indices and the metadata of one commit, memory-mapped. Closed when the last reference to it is gone.

    An index is opened when first needed, after its sha256 is verified (IntegrityError). Raises IncompleteError if
    `knn_indices` is not committed, ModelError if the indices were built with another model than the one whose identity
    is `model` (without it, the dataset's), SettingError if `safety` is for vectors of another width.
    """

    def __init__(
        self, dataset: Dataset, store: Store, safety: SafetyModel | None = None, model: str | None = None
    ) -> None:
        self.manifest: Manifest = KnnIndices(store, dataset.layout, (0,)).manifest(0)
        self.version = version_of(self.manifest)
        self.details = IndexDetails.of(self.manifest)
        self.details.require_model(dataset.name, model or weights_identity(dataset.model))
        if safety is not None:
            safety.require_width(self.details.width, dataset.name)
        self._store = store
        self._settings = dataset.search
        self._safety = safety
        self._stack = contextlib.ExitStack()
        self.close = weakref.finalize(self, self._stack.close)
        """Close the files. Called when the last reference is gone, at the latest."""
        self.metadata = MetadataRows(store, self.manifest, self.details, dataset.search.cached_rows)
        self._stack.callback(self.metadata.close)
        self._indices: dict[str, Any] = {}
        self._opening = threading.Lock()
        self._embeddings = {
            modality: EmbeddingRows(store, dataset.layout, self.manifest, self.details, modality)
            for modality in MODALITIES
        }
        self._mapped: set[str] = set()
        self._mapping = threading.Lock()
        self.tags: TagCounts | None = None
        """The NSFW tags of all rows, None until `prepare` was called."""

    def __len__(self) -> int:
        return len(self.metadata)

    def index(self, modality: str) -> Any:
        """Return the `image` or `text` index, a faiss.Index. Raises IntegrityError naming a damaged file."""
        with self._opening:
            if modality not in self._indices:
                opened = self._stack.enter_context(open_index(self._store, self.manifest, modality))
                self._indices[modality] = opened
            return self._indices[modality]

    def nearest(self, index: str, vector: "np.ndarray", depth: int) -> "tuple[list[int], list[float]]":
        """Return ids and cosine similarities of the `depth` nearest vectors to one of norm 1, nearest first."""
        import numpy as np

        near, ids = self.index(index).search(vector.reshape(1, -1), depth)
        found = ids[0] >= 0
        similarities = near[0][found] if self.details.metric == "ip" else 1 - near[0][found] / 2
        # Stored vectors are rounded to float16, so the product of two equal ones may be above 1.
        return ids[0][found].tolist(), np.clip(similarities, -1, 1).tolist()

    def vectors(self, index: str, ids: Sequence[int]) -> "np.ndarray":
        """Return the vectors of these ids, (n, width) float32 of norm 1: from the embedding files, else from the index.

        Raises QueryError for an id that the index does not have.
        """
        import numpy as np

        for row in ids:
            if not 0 <= row < len(self):
                raise QueryError(
                    f"There is no row with the id {row}: the ids are 0 to {len(self) - 1:,}.", "id", "no_id"
                )
        exact = self._embeddings[index].rows(ids)
        if exact is not None:
            return exact
        self._enable_reconstruction(index)
        found: np.ndarray = self.index(index).reconstruct_batch(np.asarray(ids, dtype=np.int64))
        norms = np.linalg.norm(found, axis=1, keepdims=True)
        return found / np.maximum(norms, 1e-12)

    def tagged_as_shown(self, ids: Sequence[int]) -> list[int]:
        """Return the places of the ids that are not hidden by their tag; all, until the tags of all rows are known."""
        import numpy as np

        if self.tags is None:
            return list(range(len(ids)))
        places: list[int] = np.flatnonzero(self.tags.shown(np.asarray(ids, dtype=np.int64))).tolist()
        return places

    def shown(self, ids: Sequence[int], rows: Sequence[Mapping[str, Any]] | None = None) -> list[bool]:
        """Return for each id whether its row may be shown: by its NSFW tag, then by the safety model if there is one.

        `rows` is the metadata of the ids. Without it, none is read once the tags of all rows are known.
        """
        import numpy as np

        if rows is None and self.tags is not None:
            shown = self.tags.shown(np.asarray(ids, dtype=np.int64)).tolist()
        else:
            rows = self.metadata.rows(ids) if rows is None else rows
            shown = [is_shown(row, self._settings) for row in rows]
        left = [position for position, each in enumerate(shown) if each]
        if self._safety is not None and left:
            unsafe = self._safety.is_unsafe(self.vectors("image", [ids[position] for position in left]))
            for position, each in zip(left, unsafe.tolist(), strict=True):
                shown[position] = not each
        return shown

    def prepare(self) -> None:
        """Read the NSFW tag of all rows, and all metadata if it fits the cache. Search once: the first one is slow."""
        import numpy as np

        for modality in MODALITIES:
            self.nearest(modality, np.full(self.details.width, self.details.width**-0.5, np.float32), 1)
        self.tags = read_tags(self.metadata, self._settings)
        self.metadata.preload()

    def _enable_reconstruction(self, index: str) -> None:
        """Let an inverted file return a vector by its id: it keeps a map from ids to its lists."""
        import faiss

        with self._mapping:
            if index not in self._mapped:
                with contextlib.suppress(RuntimeError):  # other kinds of indices need no map
                    faiss.extract_index_ivf(self.index(index)).make_direct_map()
                self._mapped.add(index)


def version_of(manifest: Manifest) -> str:
    """Return the version of committed indices: 16 hex digits of a digest of their manifest."""
    return hashlib.sha256(manifest.to_json()).hexdigest()[:16]
