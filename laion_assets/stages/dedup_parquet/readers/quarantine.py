"""Quarantined records on their way to the rejects file: kept in part, hashed and measured as a whole."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from laion_assets.dataset.identity import Positions, digest_array, raw_digest
from laion_assets.tables.columns import MARK, RAW_BYTES, REJECT, ROW_SCHEMA

HEADER_CHARS = 300
"""Characters of a header that are kept of a file which was left out."""


@dataclass(frozen=True)
class Reject:
    """A quarantined record: its number in the file, why, its first bytes, its length and the md5 of all of it."""

    number: int
    reason: str
    raw: bytes
    length: int
    digest: bytes

    @classmethod
    def of(cls, number: int, reason: str, raw: bytes) -> "Reject":
        """A record that is in memory."""
        return cls(number, reason, raw[:RAW_BYTES], len(raw), hashlib.md5(raw).digest())

    @staticmethod
    def stream(number: int, reason: str) -> "RejectStream":
        """A record that is too long for memory, to be fed in pieces."""
        return RejectStream(number, reason)


class RejectStream:
    """Builds a Reject from pieces."""

    def __init__(self, number: int, reason: str) -> None:
        self._number, self._reason = number, reason
        self._raw, self._length, self._md5 = b"", 0, hashlib.md5()

    def feed(self, piece: bytes) -> None:
        """The record's next piece."""
        self._raw += piece[: max(RAW_BYTES - self._length, 0)]
        self._length += len(piece)
        self._md5.update(piece)

    def reject(self) -> Reject:
        """The record, once all of it was fed."""
        return Reject(self._number, self._reason, self._raw, self._length, self._md5.digest())


def reject_rows(rejects: Sequence[Reject], source_file: str, positions: Positions) -> pa.RecordBatch:
    """Rejects of a file as rows of ROW_SCHEMA, those of other partitions left away."""
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
    """The row by which a file says what became of it; it belongs to the range of the md5 of its name.

    `header` is that of a file which was left out: people need it to correct a setting.
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
    """Rows of ROW_SCHEMA that are no sound rows: every column of a row is null."""
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
