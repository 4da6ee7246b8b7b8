"""Groups of vectors that are reused: those that a killed run finished, and those of the committed file.

    partial/clip_embeddings/KEY/DIGEST.npz     a finished group of an unfinished file; removed when it is committed

They are stored on a local disk only: on an object store each vector would be transferred twice more.
"""

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laion_assets.dataset.layout import EmbeddingNumber, Layout
from laion_assets.errors import EmbeddingError
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS, ClipEmbeddings
from laion_assets.stages.clip_embeddings.metadata_file import SIMILARITY
from laion_assets.stages.clip_embeddings.pipeline.groups import GroupVectors
from laion_assets.store.manifest import Manifest
from laion_assets.store.store import Store
from laion_assets.tables.vector_file import open_vectors

if TYPE_CHECKING:
    import numpy as np


_KINDS = ("img_emb", "text_emb", "metadata")


class FinishedGroups:
    """The finished groups of one embedding file, by `group_digest`."""

    def __init__(self, store: Store, layout: Layout, embedding: EmbeddingNumber, committed: Manifest | None) -> None:
        """Find the groups; `committed` is the manifest of the file to replace, if its files agree with it."""
        self._folder = store.local_path(f"partial/{CLIP_EMBEDDINGS}/{layout.embedding_key(embedding)}")
        self._committed = _CommittedGroups(store, layout, embedding, committed)

    def get(self, digest: str) -> GroupVectors | None:
        """Return the vectors of a group, None if it is not finished."""
        if self._folder is not None:
            with contextlib.suppress(FileNotFoundError):
                vectors = GroupVectors.from_bytes(self._path(digest).read_bytes())
                if vectors is not None:
                    return vectors
        return self._committed.get(digest)

    def put(self, digest: str, vectors: GroupVectors) -> None:
        """Store a group until the file is committed, atomically."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".{digest}.{os.getpid()}"
        temporary.write_bytes(vectors.to_bytes())
        os.replace(temporary, self._path(digest))

    def clear(self) -> None:
        """Remove the stored groups after the file is committed."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                self._folder.parent.rmdir()
                self._folder.parent.parent.rmdir()

    def _path(self, digest: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{digest}.npz"


class _CommittedGroups:
    """Groups of the committed file, except those with dropped rows: the file does not record which rows they were."""

    def __init__(self, store: Store, layout: Layout, embedding: EmbeddingNumber, manifest: Manifest | None) -> None:
        paths = [store.local_path(ClipEmbeddings.path(layout, embedding, kind)) for kind in _KINDS]
        self._paths = [path for path in paths if path is not None]
        self._starts: dict[str, tuple[int, int]] = {}
        start = 0
        for group in [] if manifest is None or not self._paths else manifest.details.get("groups", []):
            if group["rows"] == group["kept"]:
                self._starts[group["digest"]] = (start, group["rows"])
            start += group["kept"]
        self._similarity: np.ndarray | None = None

    def get(self, digest: str) -> GroupVectors | None:
        import numpy as np
        import pyarrow.parquet as pq

        if digest not in self._starts:
            return None
        start, rows = self._starts[digest]
        part = slice(start, start + rows)
        try:
            if self._similarity is None:
                self._similarity = pq.read_table(self._paths[2], columns=[SIMILARITY])[SIMILARITY].to_numpy()
            vectors = [np.array(open_vectors(path)[part]) for path in self._paths[:2]]
        except (OSError, EmbeddingError):
            return None
        kept = np.ones(rows, dtype=bool)
        return GroupVectors(vectors[0], vectors[1], self._similarity[part], kept, ~kept)


def describe_group(digest: str, shards: Sequence[str], vectors: GroupVectors) -> dict[str, Any]:
    """Describe a group for the details of the manifest."""
    return {"digest": digest, "shards": list(shards), "rows": len(vectors.kept), "kept": int(vectors.kept.sum())}
