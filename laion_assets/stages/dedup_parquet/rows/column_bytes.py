"""The bytes of a column of strings, looked at all at once: which rows hold a byte of some kind, how long each is."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class ColumnBytes:
    """Of n strings: `content` (m,) uint8, all their bytes in order, and `edges` (n + 1,) int64, where each begins."""

    content: np.ndarray
    edges: np.ndarray

    @classmethod
    def of(cls, column: pa.StringArray | pa.BinaryArray) -> "ColumnBytes":
        """A view of the column. What a null covers counts as its bytes: most often nothing."""
        _, offsets, data = column.buffers()
        if not len(column) or data is None:
            return cls(np.empty(0, np.uint8), np.zeros(len(column) + 1, np.int64))
        edges = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1].astype(np.int64)
        content = np.frombuffer(data, np.uint8)[edges[0] : edges[-1]]
        return cls(content, edges - edges[0])

    @property
    def lengths(self) -> np.ndarray:
        """(n,) int64, in bytes."""
        return np.diff(self.edges)

    def rows(self, marked: np.ndarray) -> np.ndarray:
        """(n,) bool: which rows hold a marked byte; `marked` is (m,) bool."""
        found = np.zeros(len(self.edges) - 1, bool)
        places = np.flatnonzero(marked)
        if len(places):
            found[np.searchsorted(self.edges, places, side="right") - 1] = True
        return found
