"""Groups of shards: the unit that is encoded as a whole, survives a killed run, and is reused while unchanged.

A group is one shard if shards are larger than a batch, otherwise as many shards as fill a batch. The layout and the
batch size alone decide which shards form a group, and the shards of a group alone decide its vectors. So the bytes are
the same whether a run was killed or not, and whether the whole file or one changed shard was encoded.
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
"""Increased when the same shards and settings would give other vectors."""


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
        """Return the vectors as an npz archive, which has a CRC of each array."""
        import numpy as np

        buffer = io.BytesIO()
        np.savez(buffer, **{name: getattr(self, name) for name in _ARRAYS})
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "GroupVectors | None":
        """Read the vectors from an npz archive; None if it is damaged."""
        import numpy as np

        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return cls(*(arrays[name] for name in _ARRAYS))
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
            return None


_ARRAYS = ("images", "texts", "similarity", "kept", "undecodable")


def split_into_groups(layout: Layout, shards: Sequence[ShardNumber], batch_size: int) -> list[tuple[ShardNumber, ...]]:
    """Split the shards of an embedding file into groups, in order."""
    at_once = max(1, batch_size // layout.rows_per_shard)
    return [tuple(shards[start : start + at_once]) for start in range(0, len(shards), at_once)]


def group_digest(manifests: Sequence[Manifest], encoder: dict[str, object]) -> str:
    """Digest everything that a group's vectors depend on: its tars, and model, device, precision and batch size."""
    tars = [manifest.entry(".tar").sha256 for manifest in manifests]
    described = json.dumps([_FORMAT, tars, encoder], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:32]
