"""Sorted runs: the rows that a reading task sends to a partition, one row per uid, as one value of Spark's exchange.

A run is an Arrow stream (arrow.apache.org, IPC) of some ten thousand rows in one binary value. So Spark's shuffle moves
few large values instead of many small rows, and sorts nothing. The numbers of rows that a task reads and drops cross
the exchange with the runs, in `counts`.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from laion_assets.stages.dedup_parquet.rows.kept_row import ORDER, REJECT_ORDER, equals_previous, sort_rows
from laion_assets.tables.column_rules import KeptColumn
from laion_assets.tables.columns import (
    EXCHANGE_SCHEMA,
    MARK,
    REJECT,
    REJECT_RUN,
    ROW,
    ROW_RUN,
    ROW_SCHEMA,
    with_kept,
)
from laion_assets.tables.row_reasons import Note

RUN_BYTES = 48 << 20
"""Size of the rows that a task holds before it builds runs. A reading task needs about four times this memory."""


_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")
"""Compressed here and not in Spark's shuffle, so that half the bytes pass through the JVM."""


class SortedRunBuilder:
    """Builder of sorted runs (EXCHANGE_SCHEMA, one row per batch) from a task's batches of ROW_SCHEMA.

    The output of the stage does not depend on the size of the runs.
    """

    def __init__(self, run_bytes: int = RUN_BYTES, kept: Sequence[KeptColumn] = ()) -> None:
        self._run_bytes = run_bytes
        self._schema, self._run_schema = with_kept(ROW_SCHEMA, kept), with_kept(ROW_RUN, kept)
        self._held: list[pa.RecordBatch] = []
        self._bytes = 0

    def add(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Add a batch. Yields runs when enough rows are held."""
        if batch.num_rows:
            self._held.append(self._add_kept(batch))
            self._bytes += batch.nbytes
            if self._bytes >= self._run_bytes:
                yield from self.finish()

    def finish(self) -> Iterator[pa.RecordBatch]:
        """Yield the runs of all held rows."""
        if self._held:
            (batch,) = pa.Table.from_batches(self._held, self._schema).combine_chunks().to_batches()
            self._held, self._bytes = [], 0
            yield from _build_runs(batch, self._run_schema)

    def _add_kept(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return rejects and marks, which have no kept columns, with these columns as nulls."""
        missing = [field for field in self._schema if field.name not in batch.schema.names]
        if not missing:
            return batch
        nulls = [pa.nulls(batch.num_rows, field.type) for field in missing]
        return pa.RecordBatch.from_arrays([*batch.columns, *nulls], schema=self._schema)


def _build_runs(batch: pa.RecordBatch, run_schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    kinds = batch.column("kind").to_numpy()
    counts: defaultdict[int, Counter[str]] = defaultdict(Counter)
    rows = _SortedRows(batch, np.flatnonzero(kinds == ROW), run_schema, ORDER)
    rejects = _SortedRows(batch, np.flatnonzero(kinds == REJECT), REJECT_RUN, REJECT_ORDER)
    rows.count(counts)
    for position, found in zip(*_count_values(rejects.positions), strict=True):
        counts[position]["rejects"] += found
    for position, state, header in _iterate(batch, np.flatnonzero(kinds == MARK), "position", "reason", "raw"):
        counts[position][f"files.{state}"] += 1
        if header:
            counts[position][f"left_out.{state}, header {header.decode()!r}"] += 1
    row_runs, reject_runs = rows.split(only_first=True), rejects.split(only_first=False)
    for position in sorted({*counts, *row_runs, *reject_runs}):
        columns = [
            pa.array([position], pa.int32()),
            _serialise(row_runs.get(position)),
            _serialise(reject_runs.get(position)),
            pa.array([json.dumps(counts[position])], pa.string()),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=EXCHANGE_SCHEMA)


class _SortedRows:
    """Rows of one kind, sorted by digest, so that the rows of a partition are adjacent."""

    def __init__(
        self, batch: pa.RecordBatch, chosen: np.ndarray, schema: pa.Schema, then: Sequence[tuple[str, str]]
    ) -> None:
        self._schema = schema
        # Usually all rows are of one kind. Then nothing is copied.
        self._batch = batch if len(chosen) == batch.num_rows else batch.take(pa.array(chosen))
        self._order, self._first = sort_rows(self._batch, then)
        self.positions = self._batch.column("position").to_numpy()[self._order]

    def count(self, counts: defaultdict[int, Counter[str]]) -> None:
        """Count the `records`, `duplicates` and `notes.NAME` of each partition, over all rows."""
        for name, positions in (("records", self.positions), ("duplicates", self.positions[~self._first])):
            for position, found in zip(*_count_values(positions), strict=True):
                counts[position][name] += found
        noted = self._batch.filter(pa.array(self._batch.column("notes").to_numpy() != 0))
        pairs = np.column_stack([noted.column("position").to_numpy(), noted.column("notes").to_numpy()])
        for (position, notes), found in zip(*_count_values(pairs, axis=0), strict=True):
            for note in Note(notes):
                counts[position][f"notes.{str(note.name).lower()}"] += found

    def split(self, *, only_first: bool) -> dict[int, pa.RecordBatch]:
        """Return the sorted rows of each partition, by position."""
        order = self._order[self._first] if only_first else self._order
        positions = self.positions[self._first] if only_first else self.positions
        columns = [self._batch.column(name) for name in self._schema.names]
        ordered = pa.RecordBatch.from_arrays(columns, schema=self._schema).take(pa.array(order))
        starts = np.flatnonzero(~equals_previous(positions)).tolist()
        ends = [*starts[1:], len(positions)]
        return {
            int(positions[start]): ordered.slice(start, end - start) for start, end in zip(starts, ends, strict=False)
        }


def _count_values(values: np.ndarray, axis: int | None = None) -> tuple[list, list]:
    unique, counts = np.unique(values, return_counts=True, axis=axis)
    return unique.tolist(), counts.tolist()


def _iterate(batch: pa.RecordBatch, chosen: np.ndarray, *names: str) -> Iterator[tuple]:
    some = batch.select(list(names)).take(pa.array(chosen))
    return zip(*[column.to_pylist() for column in some.columns], strict=True)


def _serialise(batch: pa.RecordBatch | None) -> pa.BinaryArray:
    """Serialise a batch as one compressed binary value, which is empty for None."""
    sink = pa.BufferOutputStream()
    if batch is not None:
        with pa.ipc.new_stream(sink, batch.schema, options=_COMPRESSED) as writer:
            writer.write_batch(batch)
    value = sink.getvalue()
    offsets = np.array([0, value.size], np.int32)
    return pa.BinaryArray.from_buffers(pa.binary(), 1, [None, pa.py_buffer(offsets), value])
