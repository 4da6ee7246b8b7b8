"""The published indices recounted from the files themselves: their vectors, and whether an id is its vector's row."""

from dataclasses import dataclass
from typing import Any

from laion_assets.dataset.layout import Layout
from laion_assets.errors import EmbeddingError, IncompleteError, IntegrityError
from laion_assets.stages.handles import ClipEmbeddings, KnnIndices
from laion_assets.stages.knn_indices.coherence import Embeddings, model_and_width
from laion_assets.stages.knn_indices.details import IndexDetails, footer_sha256
from laion_assets.stages.knn_indices.index_file import opened_index
from laion_assets.stages.knn_indices.recall import sampled
from laion_assets.stages.knn_indices.vectors import FOLDERS, MODALITIES, Vectors, opened_vectors
from laion_assets.store.manifest import Manifest
from laion_assets.store.store import Store
from laion_assets.tables.vector_file import read_shape

SAME = 0.999
"""Cosine from which two vectors count as the same picture or caption."""
MIN_FOUND = 0.5
"""Share of sampled vectors that have to find themselves among the first 10 of a quantised index, which is inexact by
design; of an uncompressed one all have to. Ids that are off by one find nothing at all."""


@dataclass(frozen=True)
class IndexVerification:
    """Vectors by modality in the npy files and the indices, and the share of sampled ones that find their own id."""

    npy_rows: dict[str, int]
    ntotal: dict[str, int]
    metadata_rows: int
    found: dict[str, float]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the law holds and ids map to their vectors."""
        return not self.problems


def verify_indices(store: Store, layout: Layout, samples: int = 100) -> IndexVerification:
    """Recount the published indices against the npy files and their metadata against both.

    Raises IncompleteError if they are not published; what does not fit is in `problems`, each naming a file.
    """
    manifest = KnnIndices(store, layout, (0,)).manifest(0)
    problems: list[str] = []
    npy_rows, ntotal, found = {}, {}, {}
    for modality in MODALITIES:
        npy_rows[modality] = _header_rows(store, layout, modality, problems)
        try:
            with opened_index(store, manifest, modality) as index:
                ntotal[modality] = int(index.ntotal)
                if ntotal[modality] == npy_rows[modality]:
                    with opened_vectors(store, _embeddings(store, layout), modality) as vectors:
                        found[modality] = _found(index, vectors, samples, f"{modality}.index", problems)
                else:
                    problems.append(
                        f"{modality}.index holds {ntotal[modality]} vectors and the {FOLDERS[modality]} files "
                        f"{npy_rows[modality]}"
                    )
        except (IntegrityError, EmbeddingError, IncompleteError) as error:
            problems.append(str(error))
    metadata_rows = _metadata_rows(store, manifest, problems)
    if metadata_rows != npy_rows["image"]:
        problems.append(f"the index's metadata has {metadata_rows} rows and the npy files {npy_rows['image']}")
    return IndexVerification(npy_rows, ntotal, metadata_rows, found, tuple(problems))


def _found(index: Any, vectors: Vectors, samples: int, name: str, problems: list[str]) -> float:
    """Share of sampled vectors that find their id: first where the index is exact, among 10 where it is quantised.

    A vector that is the same (a doubled picture) is as good.
    """
    import faiss

    quantised = "PQ" in type(faiss.extract_index_ivf(index)).__name__
    ids = sampled(len(vectors), samples)
    queries = vectors.rows(ids)
    _, near = index.search(queries, min(10 if quantised else 1, len(vectors)))
    missed = []
    for own, row, query in zip(ids, near, queries, strict=True):
        first = row[row >= 0][:1]
        if own not in row and not (len(first) and (vectors.rows(first) @ query >= SAME).all()):
            missed.append(int(own))
    found = round(1 - len(missed) / max(len(ids), 1), 4)
    if found < (MIN_FOUND if quantised else 1.0):
        problems.append(
            f"{name}: {len(missed)} of {len(ids)} sampled vectors do not find themselves, the first is id {missed[0]}: "
            "ids and rows do not belong together"
        )
    return found


def _metadata_rows(store: Store, manifest: Manifest, problems: list[str]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 0
    try:
        details = IndexDetails.of(manifest)
    except IntegrityError as error:
        problems.append(str(error))
        return rows
    for number, path in enumerate(details.metadata):
        where = store.address(path)
        try:
            with store.open(path) as file:
                rows += pq.ParquetFile(file).metadata.num_rows
                if details.footers and footer_sha256(file, where) != details.footers[number]:
                    problems.append(f"{where} is not the published file: its footer is another")
        except (OSError, pa.ArrowInvalid, IntegrityError) as error:
            problems.append(f"{where} cannot be read: {error}")
    return rows


def _header_rows(store: Store, layout: Layout, modality: str, problems: list[str]) -> int:
    """Rows of all npy files of a modality, from their headers."""
    rows = 0
    for partition in layout.embedding_numbers:
        path = ClipEmbeddings.path(layout, partition, FOLDERS[modality])
        try:
            with store.open(path) as file:
                rows += read_shape(file, store.address(path))[0]
        except (OSError, EmbeddingError, IntegrityError) as error:
            problems.append(str(error))
    return rows


def _embeddings(store: Store, layout: Layout) -> Embeddings:
    handle = ClipEmbeddings(store, layout, tuple(layout.embedding_numbers))
    manifests = tuple(handle.manifests())
    return Embeddings(layout, *model_and_width(manifests[0]), manifests)
