"""Typed rows with uid and partition, from strings by column name, for the readers of CSV and parquet files."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_assets.dataset.identity import Positions, digest_column, uid_digests
from laion_assets.stages.dedup_parquet.readers.quarantine import Reject
from laion_assets.stages.dedup_parquet.rows.filtering import FILTERS, PASSED, find_filtered
from laion_assets.stages.dedup_parquet.rows.kept_columns import parse_kept_columns
from laion_assets.stages.dedup_parquet.rows.normalise import normalise
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.tables.columns import REJECT, ROW, ROW_SCHEMA, WANTED_COLUMNS, with_kept
from laion_assets.tables.row_reasons import Reason


def type_rows(
    tokens: dict[str, pa.Array],
    numbers: np.ndarray,
    raw: Callable[[int], bytes],
    source_file: str,
    settings: DedupSettings,
    positions: Positions,
) -> tuple[pa.RecordBatch, list[Reject]]:
    """Build a batch of ROW_SCHEMA, with the kept columns, from n records. Returns it with the quarantined records.

    `tokens` are strings by column name (n, valid UTF-8, never null), `numbers` (n,) int64 the records' numbers in their
    file. `raw` returns the raw bytes of a record. The batch only has rows of the partitions in `positions`. Rows that
    the dataset's filters drop are rejects in the batch, with a reason.
    """
    typed = normalise(tokens, len(numbers), settings)
    digests = uid_digests(typed.columns["URL"], typed.columns["TEXT"])
    position = positions.of(digests)
    if typed.reasons:
        position[list(typed.reasons)] = -1
    kept = settings.kept
    columns = {
        **typed.columns,
        **parse_kept_columns(tokens, kept, typed.notes),
        "position": pa.array(position),
        "digest": digest_column(digests),
        "source_file": pa.repeat(source_file, len(numbers)),
        "source_row": pa.array(numbers),
        "notes": pa.array(typed.notes),
    }
    failed = find_filtered(typed.columns, len(numbers), settings.where)
    if failed is None:
        columns["kind"] = pa.repeat(pa.scalar(ROW, pa.int8()), len(numbers))
    else:
        columns |= _reject_filtered(columns, failed, (*WANTED_COLUMNS, *(column.name for column in kept)))
    schema = with_kept(ROW_SCHEMA, kept)
    arrays = [columns.get(field.name, pa.nulls(len(numbers), field.type)) for field in schema]
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    chosen = np.flatnonzero(position >= 0)
    if len(chosen) < len(numbers):
        batch = batch.take(pa.array(chosen))
    return batch, make_rejects(numbers, raw, typed.reasons)


def _reject_filtered(columns: dict[str, pa.Array], failed: np.ndarray, names: tuple[str, ...]) -> dict[str, pa.Array]:
    """Return the columns that change for filtered rows.

    A filtered row becomes a reject with its reason, in the partition of its uid. Its values and bytes are not kept, as
    a filter may drop most of a crawl: `source_file` and `source_row` identify them.
    """
    passed = pa.array(failed == PASSED)
    dropped = pc.invert(passed)
    return {
        **{name: pc.if_else(passed, columns[name], None) for name in names},
        "kind": pc.if_else(passed, pa.scalar(ROW, pa.int8()), pa.scalar(REJECT, pa.int8())),
        "reason": pa.array([str(reason) for reason in FILTERS], pa.string()).take(
            pa.array(failed, pa.int8(), mask=failed == PASSED)
        ),
        "raw": pc.if_else(dropped, b"", pa.scalar(None, pa.binary())),
        "raw_bytes": pc.if_else(dropped, pa.scalar(0, pa.int64()), None),
    }


def make_rejects(numbers: np.ndarray, raw: Callable[[int], bytes], reasons: dict[int, Reason]) -> list[Reject]:
    """Return the records of these rows as rejects."""
    return [Reject.of(int(numbers[row]), why, raw(row)) for row, why in reasons.items()]
