"""Verify the committed indices from the files: the number of vectors, and that an id is the row of its vector."""

from dataclasses import dataclass
from typing import Any

from laion_assets.dataset.layout import Layout
from laion_assets.errors import EmbeddingError, IncompleteError, IntegrityError
from laion_assets.stages.knn_indices.details import IndexDetails, footer_sha256
from laion_assets.stages.knn_indices.handle import KnnIndices
from laion_assets.stages.knn_indices.index_file import open_index
from laion_assets.stages.knn_indices.inputs import ClipEmbeddings, Embeddings, model_and_width
from laion_assets.stages.knn_indices.recall import sample_ids
from laion_assets.stages.knn_indices.vectors import FOLDERS, MODALITIES, Vectors, open_all_vectors
from laion_assets.store.manifest import Manifest
from laion_assets.store.store import Store
from laion_assets.tables.vector_file import read_shape

SAME = 0.999
"""Minimum cosine of two vectors of the same image or caption."""
MIN_FOUND = 0.5
"""Minimum share of sampled vectors that a quantised index, which is inexact by design, returns among the first 10 when
queried with them. An uncompressed index must return all of them. With ids off by one, it returns none."""


@dataclass(frozen=True)
class IndexVerification:
    """Numbers of vectors in npy files and indices by modality; share of sampled vectors found under their id."""

    npy_rows: dict[str, int]
    ntotal: dict[str, int]
    metadata_rows: int
    found: dict[str, float]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the row-count invariant holds and ids map to their vectors."""
        return not self.problems


def verify_indices(store: Store, layout: Layout, samples: int = 100) -> IndexVerification:
    """Compare the vectors of the committed indices with the npy files, and the metadata with both.

    Raises IncompleteError if the indices are not committed. `problems` lists the differences, each with a file.
    """
    manifest = KnnIndices(store, layout, (0,)).manifest(0)
    problems: list[str] = []
    npy_rows, ntotal, found = {}, {}, {}
    for modality in MODALITIES:
        npy_rows[modality] = _count_npy_rows(store, layout, modality, problems)
        try:
            with open_index(store, manifest, modality) as index:
                ntotal[modality] = int(index.ntotal)
                if ntotal[modality] == npy_rows[modality]:
                    with open_all_vectors(store, _read_embeddings(store, layout), modality) as vectors:
                        found[modality] = _share_found(index, vectors, samples, f"{modality}.index", problems)
                else:
                    problems.append(
                        f"{modality}.index has {ntotal[modality]:,} vectors, but the {FOLDERS[modality]} files have "
                        f"{npy_rows[modality]:,}"
                    )
        except (IntegrityError, EmbeddingError, IncompleteError) as error:
            problems.append(str(error))
    metadata_rows = _count_metadata_rows(store, manifest, problems)
    if metadata_rows != npy_rows["image"]:
        problems.append(
            f"the metadata of the indices has {metadata_rows:,} rows, but the npy files have {npy_rows['image']:,}"
        )
    return IndexVerification(npy_rows, ntotal, metadata_rows, found, tuple(problems))


def _share_found(index: Any, vectors: Vectors, samples: int, name: str, problems: list[str]) -> float:
    """Return the share of sampled vectors found under their id: first if the index is exact, among 10 if quantised.

    A vector of an identical image counts, too.
    """
    import faiss

    quantised = "PQ" in type(faiss.extract_index_ivf(index)).__name__
    ids = sample_ids(len(vectors), samples)
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
            f"{name}: {len(missed)} of {len(ids)} sampled vectors are not found under their id (first: {missed[0]}): "
            "ids and rows do not match"
        )
    return found


def _count_metadata_rows(store: Store, manifest: Manifest, problems: list[str]) -> int:
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
                    problems.append(f"{where} was altered after the commit: its footer differs from the manifest")
        except (OSError, pa.ArrowInvalid, IntegrityError) as error:
            problems.append(f"{where} cannot be read: {error}")
    return rows


def _count_npy_rows(store: Store, layout: Layout, modality: str, problems: list[str]) -> int:
    """Count the rows of all npy files of a modality, from their headers."""
    rows = 0
    for partition in layout.embedding_numbers:
        path = ClipEmbeddings.path(layout, partition, FOLDERS[modality])
        try:
            with store.open(path) as file:
                rows += read_shape(file, store.address(path))[0]
        except (OSError, EmbeddingError, IntegrityError) as error:
            problems.append(str(error))
    return rows


def _read_embeddings(store: Store, layout: Layout) -> Embeddings:
    handle = ClipEmbeddings(store, layout, tuple(layout.embedding_numbers))
    manifests = tuple(handle.manifests())
    return Embeddings(layout, *model_and_width(manifests[0]), manifests)
