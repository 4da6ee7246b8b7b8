"""Near-duplicates among results: the same bytes, or almost the same image vector."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

MIN_COSINE = 0.995
"""Cosine of two image vectors from which images count as near-duplicates."""
_BLOCK = 256


def find_owners(vectors: "np.ndarray", hashes: Sequence[str | None]) -> list[int]:
    """Return for each of n results, in order, the position of the first earlier one that it duplicates, else its own.

    `vectors` are the (n, width) image vectors of norm 1, `hashes` the digests of the files, None where unknown. A
    result is compared with the kept ones only, so that the answer for the first results does not depend on later ones.
    Memory grows with n, not with its square.
    """
    import numpy as np

    owners: list[int] = []
    kept: list[int] = []
    by_hash: dict[str, int] = {}
    for start in range(0, len(hashes), _BLOCK):
        block = vectors[start : start + _BLOCK]
        before = _first_close(block, vectors[kept], kept)
        inside = block @ block.T >= MIN_COSINE
        suspects = set(np.flatnonzero(np.tril(inside, -1).any(axis=1)).tolist())
        for row, digest in enumerate(hashes[start : start + _BLOCK]):
            position = start + row
            owner = by_hash.get(digest, before[row]) if digest else before[row]
            if owner is None and row in suspects:
                owner = next(
                    (start + int(i) for i in np.flatnonzero(inside[row, :row]) if owners[start + i] == start + i), None
                )
            owner = position if owner is None else owner
            if owner == position:
                kept.append(position)
            if digest:
                by_hash.setdefault(digest, owner)
            owners.append(owner)
    return owners


def find_connected(vectors: "np.ndarray", min_cosine: float) -> list[int]:
    """Return the positions of the first result of each connected component of close vectors, in order.

    Two results are connected if the cosine of their (n, width) vectors of norm 1 is at least `min_cosine`: the rule of
    clip-retrieval's `connected_components_dedup`. Memory grows with n, not with its square.
    """
    import numpy as np

    rows = len(vectors)
    degrees = np.concatenate(
        [
            (vectors[start : start + _BLOCK] @ vectors.T >= min_cosine).sum(axis=1) > 1
            for start in range(0, rows, _BLOCK)
        ]
        or [np.zeros(0, dtype=bool)]
    )
    connected = np.flatnonzero(degrees)
    close = vectors[connected]
    labels = np.arange(len(connected))
    while len(connected):
        before = labels.copy()
        for start in range(0, len(connected), _BLOCK):  # each takes the smallest label among its neighbours
            near = close[start : start + _BLOCK] @ close.T >= min_cosine
            lowest = np.where(near, labels, len(labels)).min(axis=1)
            labels[start : start + _BLOCK] = np.minimum(labels[start : start + _BLOCK], lowest)
        labels = labels[labels]
        if (labels == before).all():
            break
    kept = np.ones(rows, dtype=bool)
    kept[connected[labels != np.arange(len(connected))]] = False
    return np.flatnonzero(kept).tolist()


def _first_close(block: "np.ndarray", earlier: "np.ndarray", positions: Sequence[int]) -> list[int | None]:
    """Return for each vector of a block the first of the earlier vectors that it is close to, None without one."""
    if not len(earlier):
        return [None] * len(block)
    close = block @ earlier.T >= MIN_COSINE
    return [
        positions[first] if row[first] else None
        for row, first in zip(close, close.argmax(axis=1).tolist(), strict=True)
    ]
