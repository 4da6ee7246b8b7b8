"""Which of several rows with one uid is kept: the first in a total order, whatever order the rows came in.

Highest similarity, then lowest SAMPLE_ID, then the lowest of each other column, nulls last, ending in `source_file` and
`source_row`, which no two rows share.
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
"""Columns and directions; strings compare by their UTF-8 bytes."""


REJECT_ORDER = (("source_file", "ascending"), ("source_row", "ascending"))
"""The order of rejects of one digest."""


def in_order(batch: pa.RecordBatch, then: Sequence[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """The order of n rows by `digest` and then by these columns, and which of them are then the first of their digest.

    Gives row numbers, (n,) int64, and (n,) bool. Few rows share the first half of their digest: all are sorted by that
    number, and only those few by everything.
    """
    high, low = halves(batch.column("digest"))
    order = np.argsort(high, kind="stable")
    alike = same_as_before(high[order])
    tied = np.flatnonzero(alike | np.append(alike[1:], False))
    if len(tied):
        rows = order[tied]
        keys = [("digest", "ascending"), *then]
        some = batch.select([name for name, _ in keys]).take(pa.array(rows))
        order[tied] = rows[pc.sort_indices(some, sort_keys=keys, null_placement="at_end").to_numpy()]
    return order, ~(same_as_before(high[order]) & same_as_before(low[order]))


def same_as_before(values: np.ndarray) -> np.ndarray:
    """(n,) bool: whether a value is that of its predecessor."""
    same = np.zeros(len(values), bool)
    same[1:] = values[1:] == values[:-1]
    return same
