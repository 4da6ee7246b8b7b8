"""The rows of a sample, read by the readers of `dedup_parquet` with the settings of the dataset."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from laion_assets.dataset.identity import Positions
from laion_assets.dataset.layout import Layout
from laion_assets.tables.columns import REJECT, ROW

ALL = Positions(Layout(parquet_files=1, shards=1, embedding_files=1, rows_per_shard=1), [0])
"""The positions of a dataset with one parquet file, to which every row belongs."""


@dataclass(frozen=True)
class SampleRows:
    """`rows` are (URL, caption) in the order of the files, `accepted` their number, `reasons` count the others."""

    rows: Sequence[tuple[str, str]]
    accepted: int
    reasons: Counter[str]

    @classmethod
    def read(cls, batches: Iterator[pa.RecordBatch], most: int = 1_000) -> "SampleRows":
        """Read batches of ROW_SCHEMA. Keeps the first `most` rows."""
        rows: list[tuple[str, str]] = []
        accepted, reasons = 0, Counter[str]()
        for batch in batches:
            kinds = batch.column("kind").to_numpy()
            accepted += int((kinds == ROW).sum())
            rejects = batch.filter(pa.array(kinds == REJECT))
            reasons.update(rejects.column("reason").to_pylist())
            if len(rows) < most:
                found = batch.filter(pa.array(kinds == ROW)).select(["URL", "TEXT", "source_row"])
                first = found.take(pc.sort_indices(found, [("source_row", "ascending")])).slice(0, most)
                rows += [(row["URL"], row["TEXT"] or "") for row in first.to_pylist()]
        return cls(rows[:most], accepted, reasons)

    @classmethod
    def join(cls, parts: Iterable["SampleRows"]) -> "SampleRows":
        """Return the rows of several files together."""
        found = list(parts)
        reasons: Counter[str] = sum((part.reasons for part in found), Counter())
        return cls([row for part in found for row in part.rows], sum(part.accepted for part in found), reasons)

    def spread(self, count: int) -> list[tuple[str, str]]:
        """Return `count` rows at equal distances."""
        if len(self.rows) <= count:
            return list(self.rows)
        return [self.rows[number * (len(self.rows) - 1) // max(count - 1, 1)] for number in range(count)]
