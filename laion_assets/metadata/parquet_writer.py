"""Writing one partition: rows spooled until their number is known, then one row group a shard.

The bytes depend on the rows alone: each row group is written from one contiguous table, with pinned options.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from laion_assets.layout import Layout
from laion_assets.metadata.identity import rows_digest
from laion_assets.metadata.schema import DEDUP_SCHEMA, REJECTS_SCHEMA

_OPTIONS: dict[str, Any] = {
    "version": "2.6",
    "compression": "zstd",
    "compression_level": 3,
    "write_statistics": True,
    "data_page_size": 1 << 20,
    "data_page_version": "1.0",
}
REJECTS_ROW_GROUP = 10_000
"""Rows of a row group of the rejects file."""


class Spool:
    """Rows of DEDUP_SCHEMA on local disk, written in order and read back in slices without loading them all."""

    def __init__(self, path: Path) -> None:
        self.rows = 0
        self._path = path
        self._writer = pa.ipc.new_file(str(path), DEDUP_SCHEMA)

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *raised: object) -> None:
        self._writer.close()
        self._path.unlink(missing_ok=True)

    def add(self, batch: pa.RecordBatch) -> None:
        """Append rows."""
        self.rows += batch.num_rows
        self._writer.write_batch(batch)

    def groups(self, layout: Layout, parquet: int) -> Iterator[tuple[int, pa.Table]]:
        """Each shard of a parquet file with its rows, as one contiguous table. Ends the writing."""
        self._writer.close()
        shards = layout.shards_of_parquet(parquet)
        with pa.memory_map(str(self._path)) as mapped:
            table = pa.ipc.open_file(mapped).read_all()
            for position, shard in enumerate(shards):
                rows = layout.rows_of_shard(position, len(shards), self.rows)
                yield shard, table.slice(rows.start, len(rows)).combine_chunks()


def write_groups(spool: Spool, path: Path, layout: Layout, parquet: int) -> dict[str, str]:
    """Write a parquet file of one row group a shard; returns the digest of each shard's rows by shard key.

    Raises LayoutError, before the file is there, if a shard would have more rows than the layout allows.
    """
    layout.check_rows(parquet, spool.rows)
    digests: dict[str, str] = {}
    few_values = ["LICENSE", "NSFW", "source_file"]
    with pq.ParquetWriter(path, DEDUP_SCHEMA, use_dictionary=few_values, **_OPTIONS) as writer:
        for shard, table in spool.groups(layout, parquet):
            writer.write_table(table, row_group_size=max(table.num_rows, 1))
            digests[layout.shard_key(shard)] = rows_digest(table)
    return digests


class RejectsWriter:
    """Writes quarantined records, in the order given, in row groups of a fixed size; counts them by reason."""

    def __init__(self, path: Path) -> None:
        self.reasons: Counter[str] = Counter()
        self._held: list[pa.RecordBatch] = []
        self._writer = pq.ParquetWriter(path, REJECTS_SCHEMA, use_dictionary=["source_file", "reason"], **_OPTIONS)

    def __enter__(self) -> "RejectsWriter":
        return self

    def __exit__(self, *raised: object) -> None:
        self._writer.close()

    def add(self, batch: pa.RecordBatch) -> None:
        """Append records."""
        self.reasons.update(batch.column("reason").to_pylist())
        self._held.append(batch)
        while sum(each.num_rows for each in self._held) >= REJECTS_ROW_GROUP:
            held = pa.Table.from_batches(self._held)
            self._write(held.slice(0, REJECTS_ROW_GROUP))
            self._held = held.slice(REJECTS_ROW_GROUP).to_batches()

    def finish(self) -> None:
        """Write what is left."""
        held = pa.Table.from_batches(self._held, REJECTS_SCHEMA)
        self._held = []
        if held.num_rows:
            self._write(held)

    def _write(self, table: pa.Table) -> None:
        self._writer.write_table(table.combine_chunks(), row_group_size=table.num_rows)
