"""Vectorised access to the bytes of a string column: which rows contain certain bytes, and how long each row is."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class ColumnBytes:
    """The bytes of n strings: `content` (m,) uint8, all bytes in order; `edges` (n + 1,) int64, starts of strings."""

    content: np.ndarray
    edges: np.ndarray

    @classmethod
    def of(cls, column: pa.StringArray | pa.BinaryArray) -> "ColumnBytes":
        """Return a view of the column. A null has the bytes that it covers, usually none."""
        _, offsets, data = column.buffers()
        if not len(column) or data is None:
            return cls(np.empty(0, np.uint8), np.zeros(len(column) + 1, np.int64))
        edges = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1].astype(np.int64)
        content = np.frombuffer(data, np.uint8)[edges[0] : edges[-1]]
        return cls(content, edges - edges[0])

    @property
    def lengths(self) -> np.ndarray:
        """Lengths of the strings in bytes, (n,) int64."""
        return np.diff(self.edges)

    def rows(self, marked: np.ndarray) -> np.ndarray:
        """Return (n,) bool: which rows contain a marked byte. `marked` is (m,) bool."""
        found = np.zeros(len(self.edges) - 1, bool)
        places = np.flatnonzero(marked)
        if len(places):
            found[np.searchsorted(self.edges, places, side="right") - 1] = True
        return found
