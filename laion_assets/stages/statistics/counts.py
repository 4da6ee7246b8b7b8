"""Counts by value, the common form of all statistics: they add up over partitions, and quantiles are exact.

A counts table has a row for each (measure, value) that occurs, such as (`width`, `640`) or (`domain`, `example.org`).
Similarities are counted in steps of 1/10,000, all other values exactly, so nothing is sampled or estimated. Memory use
grows with the number of distinct values. Most of them are domains.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import accumulate

import pyarrow as pa
import pyarrow.compute as pc

COUNTS_SCHEMA = pa.schema(
    [
        pa.field("measure", pa.string(), nullable=False),
        pa.field("value", pa.string()),
        pa.field("rows", pa.int64(), nullable=False),
    ]
)
"""Columns of a counts table; a null `value` counts the rows that have none. Sorted by measure and value, null last."""
SIMILARITY_STEPS = 10_000
"""Steps in which similarities are counted, for each 1.0."""
_COMPACT_ROWS = 1_000_000

_HOST = r"(?i)\A[a-z][a-z0-9+.\-]*://(?:[^/?#]*@)?(?P<host>\[[^\]]*\]|[^/?#:]*)"


class Counter:
    """Adds up counts tables; the memory for tables that are not added up yet is bounded."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []
        self._rows = 0

    def add(self, measure: str, values: pa.Array | pa.ChunkedArray) -> None:
        """Count the values of a column (any type that reads as text)."""
        counted = pc.value_counts(values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values)
        names = pa.array([measure]).take(pa.array([0] * len(counted), pa.int8()))
        arrays = [names, counted.field("values").cast(pa.string()), counted.field("counts").cast(pa.int64())]
        self.add_table(pa.Table.from_arrays(arrays, schema=COUNTS_SCHEMA))

    def add_table(self, table: pa.Table) -> None:
        """Add a counts table."""
        self._tables.append(table)
        self._rows += table.num_rows
        if self._rows > _COMPACT_ROWS and len(self._tables) > 1:
            self._tables = [self._total()]
            # Compact again only after as many rows more, so that many distinct values are not added up over and over.
            self._rows = -self._tables[0].num_rows

    def table(self) -> pa.Table:
        """Return the counts table."""
        return self._total().sort_by([("measure", "ascending"), ("value", "ascending")]).combine_chunks()

    def _total(self) -> pa.Table:
        joined = pa.concat_tables(self._tables) if self._tables else COUNTS_SCHEMA.empty_table()
        total = joined.group_by(["measure", "value"]).aggregate([("rows", "sum")])
        columns = [total.column("measure"), total.column("value"), total.column("rows_sum")]
        return pa.Table.from_arrays(columns, schema=COUNTS_SCHEMA)


def hosts(urls: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Extract the host of each URL in lower case; null if there is none."""
    host = pc.struct_field(pc.extract_regex(urls, _HOST), 0)
    return pc.if_else(pc.equal(host, ""), None, pc.utf8_lower(host))


def similarity_steps(similarity: pa.ChunkedArray) -> pa.ChunkedArray:
    """Convert similarities to whole steps, rounded down: rows of a step are in [step, step + 1) / SIMILARITY_STEPS."""
    scaled = pc.round(pc.multiply(similarity, SIMILARITY_STEPS), ndigits=6)
    return pc.floor(scaled).cast(pa.int64())


def of_measure(table: pa.Table, measure: str) -> dict[str | None, int]:
    """Return the rows by value of one measure."""
    part = table.filter(pc.equal(table.column("measure"), measure))
    return dict(zip(part.column("value").to_pylist(), part.column("rows").to_pylist(), strict=True))


def of_values(table: pa.Table, measure: str, values: list[str]) -> dict[str, int]:
    """Return the rows of some values of one measure; values that do not occur are left out."""
    named = pc.is_in(table.column("value"), value_set=pa.array(values, pa.string()))
    part = table.filter(pc.and_(pc.equal(table.column("measure"), measure), named))
    return dict(zip(part.column("value").to_pylist(), part.column("rows").to_pylist(), strict=True))


def whole_numbers(counts: Mapping[str | None, int]) -> dict[int, int]:
    """Return the rows by number, ascending, without the rows that have none."""
    return dict(sorted((int(value), rows) for value, rows in counts.items() if value is not None))


def most(table: pa.Table, measure: str, limit: int) -> list[tuple[str, int]]:
    """Return the values with the most rows, ties by name, without the rows that have none."""
    mask = pc.and_(pc.equal(table.column("measure"), measure), pc.is_valid(table.column("value")))
    part = table.filter(mask)
    if not part.num_rows:
        return []
    order = pc.select_k_unstable(part, limit, [("rows", "descending"), ("value", "ascending")])
    first = part.take(order)
    return list(zip(first.column("value").to_pylist(), first.column("rows").to_pylist(), strict=True))


def quantiles(counts: Mapping[int, int], shares: Iterable[float]) -> dict[str, int]:
    """Return the exact quantiles by share: the smallest value that this share of rows does not exceed. May be empty."""
    values = sorted(counts)
    sums = list(accumulate(counts[value] for value in values))
    if not sums:
        return {}
    return {f"{share:g}": values[bisect_left(sums, max(share * sums[-1], 1))] for share in shares}


def at_least(counts: Mapping[int, int], bounds: Iterable[int]) -> dict[str, int]:
    """Count the rows whose value is at least each bound."""
    return {str(bound): sum(rows for value, rows in counts.items() if value >= bound) for bound in bounds}


def bin_counts(counts: Mapping[int, int], edges: list[int]) -> list[int]:
    """Count the rows in each [edge, next edge); values outside are counted in the first or the last bin."""
    bins = [0] * (len(edges) - 1)
    for value, rows in counts.items():
        place = max(bisect_left(edges, value + 1) - 1, 0)
        bins[min(place, len(bins) - 1)] += rows
    return bins
