"""Groups of shards: the unit that is encoded as a whole, kept by a killed run, and used again when its shards stay.

A group is one shard where shards are larger than a batch, and as many shards as fill a batch where they are smaller.
Which shards form a group follows from the layout and the batch size alone, and the vectors of a group from its shards
alone. So a run that was killed and one that was not, and a file in which one shard changed, end in the same bytes.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from laion_assets.dataset.layout import Layout, ShardNumber
from laion_assets.store.manifest import Manifest

if TYPE_CHECKING:
    import numpy as np

_FORMAT = 1
"""Raised when the same shards and settings would give other vectors."""


@dataclass(frozen=True)
class GroupVectors:
    """The vectors of a group's samples, row by row.

    `images` and `texts` are (n, width) float16 of norm 1, `similarity` (n,) float32 their cosine, `kept` (n,) bool.
    Rows that are not kept count as `undecodable` if they are True there, else as `no_direction`.
    """

    images: "np.ndarray"
    texts: "np.ndarray"
    similarity: "np.ndarray"
    kept: "np.ndarray"
    undecodable: "np.ndarray"

    def to_bytes(self) -> bytes:
        """The vectors as an npz archive, which carries a CRC of each array."""
        import numpy as np

        buffer = io.BytesIO()
        np.savez(buffer, **{name: getattr(self, name) for name in _ARRAYS})
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "GroupVectors | None":
        """The vectors from an npz archive; None if it is damaged."""
        import numpy as np

        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return cls(*(arrays[name] for name in _ARRAYS))
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
            return None


_ARRAYS = ("images", "texts", "similarity", "kept", "undecodable")


def groups_of(layout: Layout, shards: Sequence[ShardNumber], batch_size: int) -> list[tuple[ShardNumber, ...]]:
    """The groups of an embedding file's shards, in order."""
    at_once = max(1, batch_size // layout.rows_per_shard)
    return [tuple(shards[start : start + at_once]) for start in range(0, len(shards), at_once)]


def group_digest(manifests: Sequence[Manifest], encoder: dict[str, object]) -> str:
    """What the vectors of a group depend on: its shards' tars, and the encoder (model, device, precision, batch)."""
    tars = [manifest.entry(".tar").sha256 for manifest in manifests]
    described = json.dumps([_FORMAT, tars, encoder], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:32]
