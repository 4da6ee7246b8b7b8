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


def _first_close(block: "np.ndarray", earlier: "np.ndarray", positions: Sequence[int]) -> list[int | None]:
    """Return for each vector of a block the first of the earlier vectors that it is close to, None without one."""
    if not len(earlier):
        return [None] * len(block)
    close = block @ earlier.T >= MIN_COSINE
    return [
        positions[first] if row[first] else None
        for row, first in zip(close, close.argmax(axis=1).tolist(), strict=True)
    ]
