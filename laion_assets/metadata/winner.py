"""Which of several rows with one uid is kept: the first in a total order, whatever order the rows came in.

Highest similarity, then lowest SAMPLE_ID, then the lowest of each other column, nulls last, ending in `source_file` and
`source_row`, which no two rows share.
"""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

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


def spark_order() -> list[Any]:
    """The order of a partition's rows as Spark columns: by place, then the winner first."""
    from pyspark.sql import functions

    order = [functions.col("place").asc()]
    for name, direction in ORDER:
        column = functions.col(name)
        order.append(column.desc_nulls_last() if direction == "descending" else column.asc_nulls_last())
    return order


def first_of_each(places: pa.Array, previous: str | None) -> pa.Array:
    """(n,) bool: whether a row, in order, is the first of its place; `previous` is the place before the first row."""
    before = pa.concat_arrays([pa.array([previous], pa.string()), places.slice(0, max(len(places) - 1, 0))])
    return pc.fill_null(pc.not_equal(places, before.slice(0, len(places))), True)
