"""The writer of one partition in a Spark task: merge the sorted runs, count, write, commit."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from laion_assets.dataset.layout import Layout, ParquetNumber
from laion_assets.errors import CommitError
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET, DedupParquet
from laion_assets.stages.dedup_parquet.rows.kept_row import ORDER, REJECT_ORDER
from laion_assets.stages.dedup_parquet.spark.parquet_writer import write_groups, write_rejects
from laion_assets.stages.dedup_parquet.spark.sorted_run_merge import RANGE_BYTES, SortedRunMerge
from laion_assets.store.manifest import Counts, Manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction
from laion_assets.tables.column_rules import KeptColumn
from laion_assets.tables.row_reasons import DUPLICATE

MAX_NAMED = 10
"""Maximum number of headers of left-out files in a manifest."""


@dataclass(frozen=True)
class PartitionWriter:
    """Writer and committer of partitions from their sorted runs. Picklable.

    `settings` and `inputs` are the digests for the manifest. `partitions` are the numbers of the parquet files, by
    position.
    """

    store: Store
    layout: Layout
    partitions: tuple[ParquetNumber, ...]
    settings: str
    inputs: dict[ParquetNumber, str]
    range_bytes: int = RANGE_BYTES
    kept: tuple[KeptColumn, ...] = ()

    def write(self, position: int, batches: Iterable[pa.RecordBatch]) -> Manifest:
        """Commit the partition at `position` from all its runs (EXCHANGE_SCHEMA), which come in any order.

        Runs are stored on local disk, in the transaction's folder, until the number of rows is known. Raises
        LayoutError before the commit if a shard would have too many rows, and InvariantError, LeaseError and
        IntegrityError like a commit.
        """
        parquet = self.partitions[position]
        uids = self.layout.uid_range(parquet)
        counts: Counter[str] = Counter()
        with open_transaction(self.store, DEDUP_PARQUET, self.layout.parquet_key(parquet)) as transaction:
            rows_path = transaction.stage(DedupParquet.path(self.layout, parquet))
            rejects_path = transaction.stage(DedupParquet.rejects_path(self.layout, parquet))
            with (
                SortedRunMerge(transaction.folder / "rows.runs", uids, ORDER, self.range_bytes) as rows,
                SortedRunMerge(transaction.folder / "rejects.runs", uids, REJECT_ORDER, self.range_bytes) as rejects,
            ):
                for batch in batches:
                    _store_runs(batch, position, rows, rejects, counts)
                unique = rows.count_distinct()
                self.layout.check_rows(parquet, unique)
                outputs = write_groups(rows.merge(only_first=True), unique, rows_path, self.layout, parquet, self.kept)
                reasons = write_rejects(rejects.merge(only_first=False), rejects.total, rejects_path)
            # Rows were counted when they were read. Duplicates were dropped in the runs and in the merge.
            duplicates = counts["duplicates"] + rows.total - unique
            return transaction.commit(
                Counts(
                    rows_in=counts["records"] + counts["rejects"],
                    rows_out=unique,
                    reasons={DUPLICATE: duplicates, **dict(sorted(reasons.items()))},
                ),
                settings=self.settings,
                inputs=self.inputs[parquet],
                outputs=outputs,
                details={
                    "notes": _select_prefix(counts, "notes."),
                    "files": _select_prefix(counts, "files."),
                    "left_out": _most_common(_select_prefix(counts, "left_out.")),
                },
            )


def _store_runs(
    batch: pa.RecordBatch, position: int, rows: SortedRunMerge, rejects: SortedRunMerge, counts: Counter[str]
) -> None:
    if batch.num_rows and pc.min_max(batch.column("position")).as_py() != {"min": position, "max": position}:
        raise CommitError("Spark passed rows of another partition to a task. Set spark.sql.adaptive.enabled to false.")
    for name, merge in (("rows", rows), ("rejects", rejects)):
        for run in batch.column(name):
            if (stream := run.as_buffer()).size:
                merge.add(stream)
    for counted in batch.column("counts").to_pylist():
        counts.update(json.loads(counted))


def _most_common(counts: dict[str, int]) -> dict[str, int]:
    """Return the most common headers. A thousand files may have a thousand headers."""
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:MAX_NAMED])


def _select_prefix(counts: Counter[str], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): counts[name] for name in sorted(counts) if name.startswith(prefix)}
