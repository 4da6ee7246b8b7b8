"""Rows for quarantined records: the first bytes, the whole length, the hash of all bytes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from laion_assets.dataset.identity import Positions, digest_array, raw_digest
from laion_assets.tables.columns import MARK, RAW_BYTES, REJECT, ROW_SCHEMA

HEADER_CHARS = 300
"""Characters that are kept of the header of a file that was left out."""


@dataclass(frozen=True)
class Reject:
    """A quarantined record: number in the file, reason, first bytes, length in bytes, and md5 of the whole record."""

    number: int
    reason: str
    raw: bytes
    length: int
    digest: bytes

    @classmethod
    def of(cls, number: int, reason: str, raw: bytes) -> "Reject":
        """Return the reject of a record that is in memory."""
        return cls(number, reason, raw[:RAW_BYTES], len(raw), hashlib.md5(raw).digest())

    @staticmethod
    def stream(number: int, reason: str) -> "RejectStream":
        """Return the builder of a reject for a record that is too long for memory."""
        return RejectStream(number, reason)


class RejectStream:
    """Builder of a Reject from the pieces of a record."""

    def __init__(self, number: int, reason: str) -> None:
        self._number, self._reason = number, reason
        self._raw, self._length, self._md5 = b"", 0, hashlib.md5()

    def feed(self, piece: bytes) -> None:
        """Add the next piece of the record."""
        self._raw += piece[: max(RAW_BYTES - self._length, 0)]
        self._length += len(piece)
        self._md5.update(piece)

    def reject(self, reason: str = "") -> Reject:
        """Return the reject, after all pieces were added. `reason` replaces the first one."""
        return Reject(self._number, reason or self._reason, self._raw, self._length, self._md5.digest())


def reject_rows(rejects: Sequence[Reject], source_file: str, positions: Positions) -> pa.RecordBatch:
    """Return the rejects of a file as rows of ROW_SCHEMA, without those of other partitions."""
    if not rejects:
        return _NONE
    found = positions.of(digest_array([reject.digest for reject in rejects]))
    wanted = [(reject, position) for reject, position in zip(rejects, found.tolist(), strict=True) if position >= 0]
    return _marked_rows(
        REJECT,
        source_file,
        positions=[position for _, position in wanted],
        digests=[reject.digest for reject, _ in wanted],
        numbers=[reject.number for reject, _ in wanted],
        reasons=[str(reject.reason) for reject, _ in wanted],
        raw=[reject.raw for reject, _ in wanted],
        lengths=[reject.length for reject, _ in wanted],
    )


def file_mark(source_file: str, state: str, positions: Positions, header: str = "") -> pa.RecordBatch:
    """Return the row that records the state of a file. Its partition is that of the md5 of the file's name.

    `header` is the header of a file that was left out, which helps to correct the settings.
    """
    digest = raw_digest(source_file.encode())
    (position,) = positions.of(digest_array([digest])).tolist()
    if position < 0:
        return _NONE
    return _marked_rows(
        MARK,
        source_file,
        positions=[position],
        digests=[digest],
        numbers=[0],
        reasons=[state],
        raw=[header[:HEADER_CHARS].encode()],
        lengths=[0],
    )


def _marked_rows(
    kind: int,
    source_file: str,
    *,
    positions: list[int],
    digests: list[bytes],
    numbers: list[int],
    reasons: list[str],
    raw: list[bytes],
    lengths: list[int],
) -> pa.RecordBatch:
    """Return rows of ROW_SCHEMA for rejects or marks. The columns of a sound row are null."""
    rows = len(positions)
    given = {
        "position": pa.array(positions, pa.int32()),
        "kind": pa.repeat(pa.scalar(kind, pa.int8()), rows),
        "digest": pa.array(digests, pa.binary(16)),
        "source_file": pa.repeat(source_file, rows),
        "source_row": pa.array(numbers, pa.int64()),
        "notes": pa.repeat(pa.scalar(0, pa.int32()), rows),
        "reason": pa.array(reasons, pa.string()),
        "raw": pa.array(raw, pa.binary()),
        "raw_bytes": pa.array(lengths, pa.int64()),
    }
    columns = [given.get(field.name, pa.nulls(rows, field.type)) for field in ROW_SCHEMA]
    return pa.RecordBatch.from_arrays(columns, schema=ROW_SCHEMA)


_NONE = pa.RecordBatch.from_pylist([], schema=ROW_SCHEMA)
