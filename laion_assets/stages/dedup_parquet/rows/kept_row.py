"""The kept row among duplicates: the first in a total order that does not depend on the order of the input.

The order is: highest similarity, lowest SAMPLE_ID, then the lowest value of each other column, nulls last. It ends in
`source_file` and `source_row`, which no two rows share.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_assets.dataset.identity import halves

ORDER = (
    ("similarity", "descending"),
    ("SAMPLE_ID", "ascending"),
    ("URL", "ascending"),
    ("TEXT", "ascending"),
    ("HEIGHT", "ascending"),
    ("WIDTH", "ascending"),
    ("LICENSE", "ascending"),
    ("NSFW", "ascending"),
    ("source_file", "ascending"),
    ("source_row", "ascending"),
)
"""Columns and sort directions. Strings compare by their UTF-8 bytes."""


REJECT_ORDER = (("source_file", "ascending"), ("source_row", "ascending"))
"""Columns and sort directions of rejects with the same digest."""


def sort_rows(batch: pa.RecordBatch, then: Sequence[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """Sort n rows by `digest` and then by the given columns.

    Returns the row numbers in order, (n,) int64, and (n,) bool: which of them are the first of their digest. All rows
    are sorted by the first half of the digest. Only the few rows that share it are sorted by all columns.
    """
    high, low = halves(batch.column("digest"))
    order = np.argsort(high, kind="stable")
    alike = equals_previous(high[order])
    tied = np.flatnonzero(alike | np.append(alike[1:], False))
    if len(tied):
        rows = order[tied]
        keys = [("digest", "ascending"), *then]
        some = batch.select([name for name, _ in keys]).take(pa.array(rows))
        order[tied] = rows[pc.sort_indices(some, sort_keys=keys, null_placement="at_end").to_numpy()]
    return order, ~(equals_previous(high[order]) & equals_previous(low[order]))


def equals_previous(values: np.ndarray) -> np.ndarray:
    """Return (n,) bool: whether a value equals its predecessor."""
    same = np.zeros(len(values), bool)
    same[1:] = values[1:] == values[:-1]
    return same
