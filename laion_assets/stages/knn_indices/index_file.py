"""Open a committed index, after its sha256 is compared with the manifest.

faiss reads a damaged index without a check and may crash the process, so the hash is compared first. Memory-mapping
the file afterwards reads little.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from laion_assets.errors import IntegrityError
from laion_assets.stages.knn_indices.handle import KNN_INDICES
from laion_assets.store.manifest import WHOLE, Manifest, compute_sha256, manifest_path
from laion_assets.store.store import Store


@contextlib.contextmanager
def open_index(store: Store, manifest: Manifest, modality: str) -> Iterator[Any]:
    """Open the `image` or `text` index as a read-only, memory-mapped faiss.Index.

    Raises IntegrityError naming the file if it is missing or was altered since the commit.
    """
    entry = manifest.entry(f"{KNN_INDICES}/{modality}.index")
    where = store.address(entry.path)
    size = store.size(entry.path)
    if size is None:
        raise IntegrityError(f"{where} cannot be opened: {store.problem_at(entry.path)}. {_AGAIN}")
    if size != entry.size:
        raise IntegrityError(
            f"{where} is damaged: it has {size:,} bytes, but its manifest lists {entry.size:,}. {_AGAIN}"
        )
    with store.local_copy(entry.path) as local:
        with local.open("rb") as file:
            if compute_sha256(file) != entry.sha256:
                raise IntegrityError(f"{where} is damaged: its sha256 differs from its manifest. {_AGAIN}")
        yield read_index(str(local))


def read_index(path: str) -> Any:
    """Open a local index, memory-mapped and read-only. Raises IntegrityError if faiss cannot read it."""
    import faiss

    try:
        return faiss.read_index(path, faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError as error:
        raise IntegrityError(f"{path} is not an index that faiss can read. {_AGAIN}") from error


_AGAIN = f"Remove {manifest_path(KNN_INDICES, WHOLE)} below the root and materialize knn_indices again."
