"""The selected rows in the order of the export, as Arrow tables.

Rows of a predicate or a list come in the order of the dataset: by shard, then by row, which is by uid except in adopted
shards. They are read from the shards as they are needed. Rows of a search come nearest first, and are kept in memory.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from laion_assets.dataset.layout import ShardNumber
from laion_assets.export.rows.search_results import SearchResults
from laion_assets.export.rows.selection import Selection, map_in_order
from laion_assets.export.rows.shard_rows import SEARCH_SIMILARITY, ShardRows
from laion_assets.export.rows.uid_list import parse_uids

if TYPE_CHECKING:
    import pyarrow as pa

DATASET_ORDER, SIMILARITY_ORDER = "dataset", "similarity"


class OrderedRows(Protocol):
    """Selected rows by their number in the export."""

    order: str
    schema: "pa.Schema"

    def __len__(self) -> int: ...

    def tables(self, start: int, stop: int, columns: Sequence[str]) -> "Iterator[tuple[ShardNumber, pa.Table]]":
        """Yield these columns of the rows from `start` to `stop`, in parts of one shard each, with its number."""
        ...


class DatasetOrder:
    """Rows in the order of the dataset, read from one shard at a time."""

    order = DATASET_ORDER

    def __init__(self, source: ShardRows, selection: Selection) -> None:
        self._source = source
        self._shards = selection.shards
        self._starts = [0, *itertools.accumulate(each.rows for each in selection.shards)]
        self.schema = source.schema

    def __len__(self) -> int:
        return self._starts[-1]

    def tables(self, start: int, stop: int, columns: Sequence[str]) -> "Iterator[tuple[ShardNumber, pa.Table]]":
        """Yield the rows from `start` to `stop`, a shard at a time."""
        import bisect

        import pyarrow as pa

        first = bisect.bisect_right(self._starts, start) - 1
        for place in range(first, len(self._shards)):
            begin = self._starts[place]
            if begin >= stop:
                return
            chosen = self._shards[place]
            rows = chosen.positions()[max(start - begin, 0) : stop - begin]
            yield chosen.shard.number, self._source.read(chosen.shard.number, list(columns)).take(pa.array(rows))


class SimilarityOrder:
    """Rows of a search, nearest first, with the column `search_similarity`."""

    order = SIMILARITY_ORDER

    def __init__(self, source: ShardRows, selection: Selection, results: SearchResults) -> None:
        import numpy as np
        import pyarrow as pa

        names = source.schema.names
        self.schema = source.schema.append(pa.field(SEARCH_SIMILARITY, pa.float32()))
        tables, shards = [source.schema.empty_table()], list[int]()
        for chosen, table in map_in_order(lambda each: (each, source.read(each.shard.number, names)), selection.shards):
            tables.append(table.take(pa.array(chosen.positions())))
            shards += [chosen.shard.number] * chosen.rows
        table = pa.concat_tables(tables)
        places = results.uids.positions(parse_uids(table["uid"].to_pylist(), "row", 0))
        order = np.argsort(results.ranks[places], kind="stable")
        self._table = table.append_column(
            self.schema.field(SEARCH_SIMILARITY), pa.array(results.similarities[places], pa.float32())
        ).take(pa.array(order))
        self._shards = [ShardNumber(shards[place]) for place in order]

    def __len__(self) -> int:
        return len(self._shards)

    def tables(self, start: int, stop: int, columns: Sequence[str]) -> "Iterator[tuple[ShardNumber, pa.Table]]":
        """Yield the rows from `start` to `stop`, in runs of one shard."""
        table = self._table.select(list(columns))
        for shard, run in itertools.groupby(range(start, min(stop, len(self))), key=lambda row: self._shards[row]):
            rows = list(run)
            yield shard, table.slice(rows[0], len(rows))
