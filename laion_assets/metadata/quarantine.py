"""Quarantined records on their way to the rejects file: kept in part, hashed and measured as a whole."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from laion_assets.metadata.identity import Positions
from laion_assets.metadata.reasons import Reason
from laion_assets.metadata.schema import RAW_BYTES, REJECT_PLACE, ROW_SCHEMA


@dataclass(frozen=True)
class Reject:
    """A quarantined record: its number in the file, why, its first bytes, its length and the md5 of all of it."""

    number: int
    reason: Reason
    raw: bytes
    length: int
    digest: bytes

    @classmethod
    def of(cls, number: int, reason: Reason, raw: bytes) -> "Reject":
        """A record that is in memory."""
        return cls(number, reason, raw[:RAW_BYTES], len(raw), hashlib.md5(raw).digest())

    @staticmethod
    def stream(number: int, reason: Reason) -> "RejectStream":
        """A record that is too long for memory, to be fed in pieces."""
        return RejectStream(number, reason)


class RejectStream:
    """Builds a Reject from pieces."""

    def __init__(self, number: int, reason: Reason) -> None:
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
    found = positions.of([reject.digest for reject in rejects])
    wanted = [(reject, place) for reject, place in zip(rejects, found.tolist(), strict=True) if place >= 0]
    return marked_rows(
        place=np.array([place for _, place in wanted], np.int32),
        keys=[REJECT_PLACE + reject.digest.hex() for reject, _ in wanted],
        source_file=source_file,
        numbers=[reject.number for reject, _ in wanted],
        reasons=[str(reject.reason) for reject, _ in wanted],
        raw=[reject.raw for reject, _ in wanted],
        lengths=[reject.length for reject, _ in wanted],
    )


def marked_rows(
    *,
    place: np.ndarray,
    keys: list[str],
    source_file: str,
    numbers: list[int],
    reasons: list[str],
    raw: list[bytes],
    lengths: list[int],
) -> pa.RecordBatch:
    """Rows of ROW_SCHEMA that are no sound rows: every column of a row is null."""
    given = {
        "position": pa.array(place, pa.int32()),
        "place": pa.array(keys, pa.string()),
        "source_file": pa.array([source_file] * len(keys), pa.string()),
        "source_row": pa.array(numbers, pa.int64()),
        "notes": pa.array(np.zeros(len(keys), np.int32)),
        "reason": pa.array(reasons, pa.string()),
        "raw": pa.array(raw, pa.binary()),
        "raw_bytes": pa.array(lengths, pa.int64()),
    }
    columns = [given.get(field.name, pa.nulls(len(keys), field.type)) for field in ROW_SCHEMA]
    return pa.RecordBatch.from_arrays(columns, schema=ROW_SCHEMA)
