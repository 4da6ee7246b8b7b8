"""The vectors of all embedding files of one modality as one array, memory-mapped.

The index's id of a vector is its row in the concatenation of the files in sorted order (clip-retrieval's rule). Keys
have a fixed width, so the sorted order is the order of the partitions.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from laion_assets.errors import EmbeddingError
from laion_assets.stages.knn_indices.inputs import CLIP_EMBEDDINGS, ClipEmbeddings, Embeddings
from laion_assets.store.manifest import FileEntry, compute_sha256, manifest_path
from laion_assets.store.store import Store
from laion_assets.tables.vector_file import open_vectors

if TYPE_CHECKING:
    import numpy as np

FOLDERS = {"image": "img_emb", "text": "text_emb"}
"""clip-retrieval's folder of vectors, by modality. The index is named after the modality."""
MODALITIES = tuple(FOLDERS)


@dataclass(frozen=True)
class Vectors:
    """Memory-mapped (n_i, width) float16 arrays in the order of the ids, and the paths of their files."""

    arrays: Sequence["np.ndarray"]
    paths: Sequence[Path]

    @cached_property
    def starts(self) -> "np.ndarray":
        """First id of each file, and the number of vectors at the end."""
        import numpy as np

        return np.cumsum([0, *map(len, self.arrays)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def rows(self, ids: "np.ndarray") -> "np.ndarray":
        """Return the vectors of these ids, (len(ids), width) float32."""
        import numpy as np

        found = np.empty((len(ids), self.arrays[0].shape[1]), dtype=np.float32)
        files = np.searchsorted(self.starts, ids, side="right") - 1
        for file in np.unique(files):
            chosen = np.flatnonzero(files == file)
            found[chosen] = self.arrays[file][np.asarray(ids)[chosen] - self.starts[file]]
        return found

    def blocks(self, size: int) -> Iterator["np.ndarray"]:
        """Yield all vectors in order of their ids, in blocks of (at most `size`, width) float32."""
        import numpy as np

        for array in self.arrays:
            for start in range(0, len(array), size):
                yield np.asarray(array[start : start + size], dtype=np.float32)


@contextlib.contextmanager
def open_all_vectors(store: Store, embeddings: Embeddings, modality: str, *, hashes: bool = False) -> Iterator[Vectors]:
    """Open the vectors of `image` or `text`. From an object store, the files are copied to a temporary folder.

    With `hashes`, the sha256 of every file is compared with its manifest first. Raises EmbeddingError naming the file
    for another dtype, width or order, for a number of rows that differs from the manifest, and for another sha256.
    """
    with contextlib.ExitStack() as stack:
        arrays, paths, entries = [], [], []
        for partition, manifest in zip(embeddings.layout.embedding_numbers, embeddings.manifests, strict=True):
            path = ClipEmbeddings.path(embeddings.layout, partition, FOLDERS[modality])
            local = stack.enter_context(store.local_copy(path))
            array = open_vectors(local, embeddings.width, store.address(path))
            if len(array) != manifest.counts.rows_out:
                raise EmbeddingError(
                    f"{store.address(path)} has {len(array):,} rows, but its manifest lists "
                    f"{manifest.counts.rows_out:,}. Materialize its partition of {CLIP_EMBEDDINGS} again."
                )
            arrays.append(array)
            paths.append(local)
            entries.append(manifest.entry(path))
        if hashes:
            keys = [manifest.key for manifest in embeddings.manifests]
            with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="hash") as pool:
                list(pool.map(verify_bytes, [store] * len(keys), keys, paths, entries))
        yield Vectors(arrays, paths)


def verify_bytes(store: Store, key: str, local: Path, entry: FileEntry) -> None:
    """Raise EmbeddingError unless the file at `local`, of embedding partition `key`, has the sha256 of `entry`."""
    with local.open("rb") as file:
        if compute_sha256(file) != entry.sha256:
            raise EmbeddingError(
                f"{store.address(entry.path)} was altered after the commit: its sha256 differs from the manifest. "
                f"Remove {store.address(manifest_path(CLIP_EMBEDDINGS, key))} and materialize partition {key} of "
                f"{CLIP_EMBEDDINGS} again."
            )
