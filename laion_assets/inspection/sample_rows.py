"""The rows of a sample, read by the readers of `dedup_parquet` with the settings of the dataset."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

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
    def read(cls, batches: Iterator[pa.RecordBatch], most: int = 10_000) -> "SampleRows":
        """Read batches of ROW_SCHEMA. Keeps at most `most` rows."""
        rows: list[tuple[str, str]] = []
        accepted, reasons = 0, Counter[str]()
        for batch in batches:
            kinds = batch.column("kind").to_pylist()
            accepted += kinds.count(ROW)
            reasons.update(
                why for kind, why in zip(kinds, batch.column("reason").to_pylist(), strict=True) if kind == REJECT
            )
            if len(rows) < most and ROW in kinds:
                some = batch.select(["URL", "TEXT", "kind", "source_row"]).to_pylist()
                found = sorted((row for row in some if row["kind"] == ROW), key=lambda row: row["source_row"])
                rows += [(row["URL"], row["TEXT"] or "") for row in found]
        return cls(rows[:most], accepted, reasons)

    def spread(self, count: int) -> list[tuple[str, str]]:
        """Return `count` rows at equal distances."""
        if len(self.rows) <= count:
            return list(self.rows)
        return [self.rows[number * (len(self.rows) - 1) // max(count - 1, 1)] for number in range(count)]
