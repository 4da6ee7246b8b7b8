"""What a Spark task does with the sorted rows of one partition: pick the winners, count, write, publish."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_assets.commit.manifest import Counts, Manifest
from laion_assets.commit.publication import publication
from laion_assets.commit.store import Store
from laion_assets.errors import CommitError
from laion_assets.handles import DEDUP_PARQUET, DedupParquet
from laion_assets.layout import Layout
from laion_assets.metadata.parquet_writer import RejectsWriter, Spool, write_groups
from laion_assets.metadata.reasons import DUPLICATE, Note
from laion_assets.metadata.schema import DEDUP_SCHEMA, FILE_PLACE, REJECT_PLACE, REJECTS_SCHEMA
from laion_assets.metadata.winner import first_of_each


@dataclass(frozen=True)
class PartitionWriter:
    """Writes and publishes partitions from their sorted rows; picklable.

    `settings` and `inputs` are the digests for the manifest; `partitions` the parquet file at each position.
    """

    store: Store
    layout: Layout
    partitions: tuple[int, ...]
    settings: str
    inputs: dict[int, str]

    def write(self, position: int, batches: Iterable[pa.RecordBatch]) -> Manifest:
        """Publish the partition at `position` from all its rows (ROW_SCHEMA, in `winner.spark_order`).

        Raises LayoutError, before anything is published, when a shard would have too many rows; ConservationError,
        ClaimError, IntegrityError as publishing does.
        """
        parquet = self.partitions[position]
        tally = _Tally()
        with publication(self.store, DEDUP_PARQUET, self.layout.parquet_key(parquet)) as attempt:
            rows_path = attempt.stage(DedupParquet.path(self.layout, parquet))
            rejects_path = attempt.stage(DedupParquet.rejects_path(self.layout, parquet))
            with Spool(attempt.folder / "rows.arrow") as spool, RejectsWriter(rejects_path) as rejects:
                for batch in batches:
                    tally.sort(batch, position, spool, rejects)
                rejects.finish()
                outputs = write_groups(spool, rows_path, self.layout, parquet)
            return attempt.commit(
                Counts(
                    rows_in=tally.records,
                    rows_out=spool.rows,
                    reasons={DUPLICATE: tally.duplicates, **dict(sorted(rejects.reasons.items()))},
                ),
                settings=self.settings,
                inputs=self.inputs[parquet],
                outputs=outputs,
                details={"notes": dict(sorted(tally.notes.items())), "files": dict(sorted(tally.files.items()))},
            )


class _Tally:
    """Counts a partition's records while they are told apart into rows, duplicates, rejects and marks of files."""

    def __init__(self) -> None:
        self.records = 0
        self.duplicates = 0
        self.notes: Counter[str] = Counter()
        self.files: Counter[str] = Counter()
        self._previous: str | None = None

    def sort(self, batch: pa.RecordBatch, position: int, spool: Spool, rejects: RejectsWriter) -> None:
        if not batch.num_rows:
            return
        if pc.min_max(batch.column("position")).as_py() != {"min": position, "max": position}:
            raise CommitError("Spark gave a task the rows of another partition. Switch adaptive execution off.")
        places = batch.column("place")
        if places[0].as_py() < REJECT_PLACE:
            rows = batch.filter(pc.less(places, REJECT_PLACE)) if places[-1].as_py() >= REJECT_PLACE else batch
            self._rows(rows, spool)
        if places[-1].as_py() >= REJECT_PLACE:
            quarantined = batch.filter(pc.and_(pc.greater_equal(places, REJECT_PLACE), pc.less(places, FILE_PLACE)))
            marks = batch.filter(pc.greater_equal(places, FILE_PLACE))
            self.records += quarantined.num_rows
            names = REJECTS_SCHEMA.names
            rejects.add(pa.RecordBatch.from_arrays([quarantined.column(each) for each in names], schema=REJECTS_SCHEMA))
            self.files.update(marks.column("reason").to_pylist())

    def _rows(self, rows: pa.RecordBatch, spool: Spool) -> None:
        places = rows.column("place")
        first = first_of_each(places, self._previous)
        self._previous = places[-1].as_py()
        self._note(rows.column("notes").to_numpy())
        kept = rows.filter(first)
        self.records += rows.num_rows
        self.duplicates += rows.num_rows - kept.num_rows
        columns = [kept.column("place" if name == "uid" else name) for name in DEDUP_SCHEMA.names]
        spool.add(pa.RecordBatch.from_arrays(columns, schema=DEDUP_SCHEMA))

    def _note(self, notes: np.ndarray) -> None:
        values, counts = np.unique(notes, return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            for note in Note(value):
                self.notes[str(note.name).lower()] += count
