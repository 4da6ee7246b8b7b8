"""Merge of a partition's sorted runs on local disk, one uid range at a time, so that memory stays bounded."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from laion_assets.dataset.identity import halves
from laion_assets.dataset.layout import HASH_BITS
from laion_assets.stages.dedup_parquet.rows.kept_row import equals_previous, sort_rows

RANGE_BYTES = 48 << 20
"""Approximate size of the rows that are merged at once. Digests are uniform, so equal ranges have equally many rows."""
_ALIGNMENT = 64


class SortedRunMerge:
    """Sorted runs of one schema, appended to a file, then merged by reading the file in ranges.

    `uids` is the partition's range of the hash space, [first, end) as 128-bit integers. Each run is sorted by `digest`
    and memory-mapped: a merge holds one range of all runs. `total` is the number of rows of all runs.
    """

    def __init__(
        self, path: Path, uids: tuple[int, int], then: Sequence[tuple[str, str]], range_bytes: int = RANGE_BYTES
    ) -> None:
        self.total = 0
        self._path, self._uids, self._then, self._range_bytes = path, uids, then, range_bytes
        self._file = pa.OSFile(str(path), "wb")
        self._runs: list[tuple[int, int]] = []

    def __enter__(self) -> "SortedRunMerge":
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def add(self, run: pa.Buffer) -> None:
        """Append a run, an Arrow stream of one batch. It is stored uncompressed, so that it can be memory-mapped."""
        batch = pa.ipc.open_stream(run).read_next_batch()
        self.total += batch.num_rows
        start = self._file.tell()
        with pa.ipc.new_stream(self._file, batch.schema) as writer:
            writer.write_batch(batch)
        size = self._file.tell() - start
        self._runs.append((start, size))
        self._file.write(b"\0" * (-size % _ALIGNMENT))

    def count_distinct(self) -> int:
        """Count the distinct digests of all runs. Row groups need the number of rows before the first row."""
        found = 0
        for parts in self._read_ranges(["digest"]):
            high, low = (
                np.concatenate(words) for words in zip(*(halves(part.column(0)) for part in parts), strict=True)
            )
            order = np.argsort(high, kind="stable")
            tied = np.flatnonzero(equals_previous(high[order]))
            found += len(order)
            if len(tied):
                both = order[np.union1d(tied, tied - 1)]
                both = both[np.lexsort((low[both], high[both]))]
                found -= int((equals_previous(high[both]) & equals_previous(low[both])).sum())
        return found

    def merge(self, *, only_first: bool) -> Iterator[pa.RecordBatch]:
        """Yield all rows in order, or the first row of each digest, range by range."""
        for parts in self._read_ranges():
            (batch,) = pa.Table.from_batches(parts).combine_chunks().to_batches()
            order, first = sort_rows(batch, self._then)
            yield batch.take(pa.array(order[first] if only_first else order))

    def _read_ranges(self, columns: list[str] | None = None) -> Iterator[list[pa.RecordBatch]]:
        """Yield the rows of all runs in each range that is not empty."""
        self._file.close()
        if not self._runs:
            return
        with pa.memory_map(str(self._path)) as mapped:
            whole = mapped.read_buffer()
            runs = [pa.ipc.open_stream(whole.slice(start, size)).read_next_batch() for start, size in self._runs]
            edges = self._range_bounds(math.ceil(whole.size / self._range_bytes))
            cuts = [[0, *np.searchsorted(halves(run["digest"])[0], edges), run.num_rows] for run in runs]
            if columns:
                runs = [run.select(columns) for run in runs]
            for number in range(len(edges) + 1):
                spans = [(run, int(cut[number]), int(cut[number + 1])) for run, cut in zip(runs, cuts, strict=True)]
                parts = [run.slice(start, end - start) for run, start, end in spans if end > start]
                if parts:
                    yield parts

    def _range_bounds(self, ranges: int) -> np.ndarray:
        """Return the inner bounds of equal ranges of the partition's hash space: their first 64 bits, (ranges - 1,)."""
        first, last = (edge >> (HASH_BITS - 64) for edge in (self._uids[0], self._uids[1] - 1))
        return np.array([first + (last - first) * number // ranges for number in range(1, ranges)], np.uint64)
