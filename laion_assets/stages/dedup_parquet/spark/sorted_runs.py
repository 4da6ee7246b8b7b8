"""Runs: what a reading task sends to a partition, sorted, one row a uid, as one value of Spark's exchange.

Rows cross the exchange by the ten thousand: an Arrow stream (arrow.apache.org, IPC) in one binary value. Spark's
shuffle then moves few large values instead of many small rows, and sorts nothing. What a task drops or counts on the
way travels beside the rows, in `counts`.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from laion_assets.stages.dedup_parquet.rows.kept_row import ORDER, REJECT_ORDER, in_order, same_as_before
from laion_assets.stages.dedup_parquet.rows.reasons import Note
from laion_assets.tables.columns import (
    EXCHANGE_SCHEMA,
    MARK,
    REJECT,
    REJECT_RUN,
    ROW,
    ROW_RUN,
    ROW_SCHEMA,
)

RUN_BYTES = 48 << 20
"""Rows that a task holds before it cuts them into runs; the memory of a reading task is about four times this."""


_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")
"""Here, and not in Spark's shuffle: half the bytes pass through the JVM."""


class SortedRunBuilder:
    """Takes a task's batches of ROW_SCHEMA and gives runs (EXCHANGE_SCHEMA, one row a batch).

    What is published does not depend on where runs are cut.
    """

    def __init__(self, run_bytes: int = RUN_BYTES) -> None:
        self._run_bytes = run_bytes
        self._held: list[pa.RecordBatch] = []
        self._bytes = 0

    def add(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Take a batch; gives runs once enough rows are held."""
        if batch.num_rows:
            self._held.append(batch)
            self._bytes += batch.nbytes
            if self._bytes >= self._run_bytes:
                yield from self.finish()

    def finish(self) -> Iterator[pa.RecordBatch]:
        """The runs of all that is held."""
        if self._held:
            (batch,) = pa.Table.from_batches(self._held, ROW_SCHEMA).combine_chunks().to_batches()
            self._held, self._bytes = [], 0
            yield from _cut(batch)


def _cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    kinds = batch.column("kind").to_numpy()
    counts: defaultdict[int, Counter[str]] = defaultdict(Counter)
    rows = _Sorted(batch, np.flatnonzero(kinds == ROW), ROW_RUN, ORDER)
    rejects = _Sorted(batch, np.flatnonzero(kinds == REJECT), REJECT_RUN, REJECT_ORDER)
    rows.count(counts)
    for position, found in zip(*_counted(rejects.positions), strict=True):
        counts[position]["rejects"] += found
    for position, state, header in _of(batch, np.flatnonzero(kinds == MARK), "position", "reason", "raw"):
        counts[position][f"files.{state}"] += 1
        if header:
            counts[position][f"left_out.{state}, header {header.decode()!r}"] += 1
    row_runs, reject_runs = rows.runs(only_first=True), rejects.runs(only_first=False)
    for position in sorted({*counts, *row_runs, *reject_runs}):
        columns = [
            pa.array([position], pa.int32()),
            _stream(row_runs.get(position)),
            _stream(reject_runs.get(position)),
            pa.array([json.dumps(counts[position])], pa.string()),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=EXCHANGE_SCHEMA)


class _Sorted:
    """Rows of one kind in the order of their digests, so those of one partition follow each other."""

    def __init__(
        self, batch: pa.RecordBatch, chosen: np.ndarray, schema: pa.Schema, then: Sequence[tuple[str, str]]
    ) -> None:
        self._schema = schema
        # Most often all rows are of one kind: then nothing is copied.
        self._batch = batch if len(chosen) == batch.num_rows else batch.take(pa.array(chosen))
        self._order, self._first = in_order(self._batch, then)
        self.positions = self._batch.column("position").to_numpy()[self._order]

    def count(self, counts: defaultdict[int, Counter[str]]) -> None:
        """Add each partition's `records`, `duplicates` and `notes.NAME`, over all rows."""
        for name, positions in (("records", self.positions), ("duplicates", self.positions[~self._first])):
            for position, found in zip(*_counted(positions), strict=True):
                counts[position][name] += found
        noted = self._batch.filter(pa.array(self._batch.column("notes").to_numpy() != 0))
        pairs = np.column_stack([noted.column("position").to_numpy(), noted.column("notes").to_numpy()])
        for (position, notes), found in zip(*_counted(pairs, axis=0), strict=True):
            for note in Note(notes):
                counts[position][f"notes.{str(note.name).lower()}"] += found

    def runs(self, *, only_first: bool) -> dict[int, pa.RecordBatch]:
        """Each partition's rows in order, by position."""
        order = self._order[self._first] if only_first else self._order
        positions = self.positions[self._first] if only_first else self.positions
        columns = [self._batch.column(name) for name in self._schema.names]
        ordered = pa.RecordBatch.from_arrays(columns, schema=self._schema).take(pa.array(order))
        starts = np.flatnonzero(~same_as_before(positions)).tolist()
        ends = [*starts[1:], len(positions)]
        return {
            int(positions[start]): ordered.slice(start, end - start) for start, end in zip(starts, ends, strict=False)
        }


def _counted(values: np.ndarray, axis: int | None = None) -> tuple[list, list]:
    unique, counts = np.unique(values, return_counts=True, axis=axis)
    return unique.tolist(), counts.tolist()


def _of(batch: pa.RecordBatch, chosen: np.ndarray, *names: str) -> Iterator[tuple]:
    some = batch.select(list(names)).take(pa.array(chosen))
    return zip(*[column.to_pylist() for column in some.columns], strict=True)


def _stream(batch: pa.RecordBatch | None) -> pa.BinaryArray:
    """A batch as one binary value, compressed; that of none is empty."""
    sink = pa.BufferOutputStream()
    if batch is not None:
        with pa.ipc.new_stream(sink, batch.schema, options=_COMPRESSED) as writer:
            writer.write_batch(batch)
    value = sink.getvalue()
    offsets = np.array([0, value.size], np.int32)
    return pa.BinaryArray.from_buffers(pa.binary(), 1, [None, pa.py_buffer(offsets), value])
