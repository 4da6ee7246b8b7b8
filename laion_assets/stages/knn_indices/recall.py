"""recall@10 of an index, against exact search over the vectors it was built from.

recall@10 is the share of a query's 10 nearest vectors that the index returns. autofaiss measures it with indexed
vectors as queries, which returns higher values than the usual query, a caption that is not in the index. So recall is
measured and reported separately with images and with captions as queries. A returned vector that is as near as the
10th counts as found, because identical images are interchangeable.
"""

from typing import TYPE_CHECKING, Any

from laion_assets.stages.knn_indices.vectors import Vectors

if TYPE_CHECKING:
    import numpy as np

RECALL_AT = 10
BLOCK_ROWS = 16_384
"""Vectors per block of the exact search: 34 MB at a width of 512."""
TIE = 1e-5
"""Similarities closer than this are equal: the rounding of float32 sums."""


def sample_ids(count: int, wanted: int) -> "np.ndarray":
    """Return `wanted` evenly spaced ids, or all. Rows are in the order of a hash, so this is a random sample."""
    import numpy as np

    wanted = min(count, wanted)
    return np.arange(wanted, dtype=np.int64) * count // max(wanted, 1)


def exact_kth(queries: "np.ndarray", vectors: Vectors, k: int = RECALL_AT) -> "np.ndarray":
    """Return the similarity, (q,) float32, of each query's exact k-th nearest vector (the last if there are fewer).

    Makes one pass over the files in blocks; memory use is a block and (q, k).
    """
    import faiss
    import numpy as np

    best = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for block in vectors.blocks(BLOCK_ROWS):
        near, _ = faiss.knn(queries, block, min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
        best = -np.partition(-np.concatenate([best, near], axis=1), k - 1, axis=1)[:, :k]
    return np.where(np.isfinite(best), best, np.inf).min(axis=1)


def recall_at_10(index: Any, vectors: Vectors, queries: "np.ndarray", kth: "np.ndarray") -> float:
    """Return the mean share of each query's 10 exact nearest vectors that the index returns; `kth` from `exact_kth`."""
    import numpy as np

    k = min(RECALL_AT, len(vectors))
    _, ids = index.search(queries, k)
    found = 0
    for query, row, floor in zip(queries, ids, kth, strict=True):
        returned = np.unique(row[row >= 0])
        if len(returned):
            found += int((vectors.rows(returned) @ query >= floor - TIE).sum())
    return round(found / (k * max(len(queries), 1)), 4)


def measure_recall(index: Any, own: Vectors, other: Vectors, wanted: int, names: tuple[str, str]) -> dict[str, float]:
    """Measure recall@10 by the modality of the query: `names` are those of `own` (the indexed vectors) and `other`."""
    import numpy as np

    ids = sample_ids(len(own), wanted)
    both = np.concatenate([own.rows(ids), other.rows(ids)])
    kth = exact_kth(both, own)
    return {
        names[0]: recall_at_10(index, own, both[: len(ids)], kth[: len(ids)]),
        names[1]: recall_at_10(index, own, both[len(ids) :], kth[len(ids) :]),
    }


def find_low_recall(measured: dict[str, dict[str, float]], floor: float) -> list[str]:
    """Describe each recall below the floor; `measured` is by modality of the index and of the query."""
    return [
        f"{modality}.index has a recall@10 of {recall:.3f} by {query}, below index.min_recall = {floor}"
        for modality, by_query in measured.items()
        for query, recall in by_query.items()
        if recall < floor
    ]
