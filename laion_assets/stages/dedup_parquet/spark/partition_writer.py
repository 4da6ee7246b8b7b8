"""What a Spark task does with the runs of one partition: merge them, count, write, publish."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from laion_assets.dataset.layout import Layout, ParquetNumber
from laion_assets.errors import CommitError
from laion_assets.stages.dedup_parquet.rows.kept_row import ORDER, REJECT_ORDER
from laion_assets.stages.dedup_parquet.rows.reasons import DUPLICATE
from laion_assets.stages.dedup_parquet.spark.parquet_writer import write_groups, write_rejects
from laion_assets.stages.dedup_parquet.spark.sorted_run_merge import RANGE_BYTES, SortedRunMerge
from laion_assets.stages.handles import DEDUP_PARQUET, DedupParquet
from laion_assets.store.manifest import Counts, Manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction

MAX_NAMED = 10
"""Headers of files that were left out that a manifest names."""


@dataclass(frozen=True)
class PartitionWriter:
    """Writes and publishes partitions from their runs; picklable.

    `settings` and `inputs` are the digests for the manifest; `partitions` the parquet file at each position.
    """

    store: Store
    layout: Layout
    partitions: tuple[ParquetNumber, ...]
    settings: str
    inputs: dict[ParquetNumber, str]
    range_bytes: int = RANGE_BYTES

    def write(self, position: int, batches: Iterable[pa.RecordBatch]) -> Manifest:
        """Publish the partition at `position` from all its runs (EXCHANGE_SCHEMA), in any order.

        Runs are put aside on local disk, in the attempt's own folder, until the number of rows is known. Raises
        LayoutError, before anything is published, when a shard would have too many rows; ConservationError, ClaimError,
        IntegrityError as publishing does.
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
                    _put_aside(batch, position, rows, rejects, counts)
                unique = rows.distinct()
                self.layout.check_rows(parquet, unique)
                outputs = write_groups(rows.rows(only_first=True), unique, rows_path, self.layout, parquet)
                reasons = write_rejects(rejects.rows(only_first=False), rejects.total, rejects_path)
            # Rows were counted where they were read; duplicates where they were dropped, in the cutting and the merge.
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
                    "notes": _under(counts, "notes."),
                    "files": _under(counts, "files."),
                    "left_out": _most_common(_under(counts, "left_out.")),
                },
            )


def _put_aside(
    batch: pa.RecordBatch, position: int, rows: SortedRunMerge, rejects: SortedRunMerge, counts: Counter[str]
) -> None:
    if batch.num_rows and pc.min_max(batch.column("position")).as_py() != {"min": position, "max": position}:
        raise CommitError("Spark gave a task the rows of another partition. Switch adaptive execution off.")
    for name, merge in (("rows", rows), ("rejects", rejects)):
        for run in batch.column(name):
            if (stream := run.as_buffer()).size:
                merge.add(stream)
    for said in batch.column("counts").to_pylist():
        counts.update(json.loads(said))


def _most_common(counts: dict[str, int]) -> dict[str, int]:
    """The most common ones, for people: a thousand files may have a thousand headers."""
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:MAX_NAMED])


def _under(counts: Counter[str], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): counts[name] for name in sorted(counts) if name.startswith(prefix)}
