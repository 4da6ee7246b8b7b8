"""A list of uids from a file, sorted in memory: 16 bytes a uid."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from laion_assets.errors import ExportError

if TYPE_CHECKING:
    import numpy as np

UID_PAIR = "u8,u8"
"""numpy's dtype of DataComp's uids: the first and the last 64 bits of the uid as integers."""
_RAW = "S16"
"""A uid as 16 bytes. numpy pads with zeros when it compares, so that uids which end in zeros compare correctly."""
_CHUNK = 1 << 20


@dataclass
class UidList:
    """The distinct uids of a list, (n,) S16, sorted; the number of listed ones; and which were found in a row."""

    uids: "np.ndarray"
    listed: int
    found: "np.ndarray"

    @classmethod
    def of(cls, raw: "np.ndarray") -> "UidList":
        """Build the list from uids as (n,) S16 in any order."""
        import numpy as np

        uids = np.unique(raw)
        return cls(uids, len(raw), np.zeros(len(uids), bool))

    def positions(self, uids: "np.ndarray") -> "np.ndarray":
        """Return the position of each uid, (m,) S16, in the list, -1 if it is not in it. Shape (m,) int64."""
        import numpy as np

        if not len(self.uids):
            return np.full(len(uids), -1)
        places = np.searchsorted(self.uids, uids)
        places[places == len(self.uids)] = 0
        return np.where(self.uids[places] == uids, places, -1)


def read_uid_list(path: str) -> UidList:
    """Read a list of uids: text with one uid of 32 hex digits a line, parquet with a column `uid`, or npy.

    An npy file has DataComp's dtype "u8,u8", or uids as text. Raises ExportError naming the file and the line.
    """
    suffix = Path(path).suffix.lower()
    readers = {".txt": _read_text, ".parquet": _read_parquet, ".npy": _read_npy}
    if suffix not in readers:
        raise ExportError(f"{path} is not a list of uids: expected a file named *.txt, *.parquet or *.npy.")
    try:
        return UidList.of(readers[suffix](path))
    except FileNotFoundError:
        raise ExportError(f"The list of uids {path} does not exist.") from None
    except OSError as error:
        raise ExportError(f"The list of uids {path} cannot be read: {error}") from error


def parse_uids(texts: list[str | None], where: str, first: int = 1) -> "np.ndarray":
    """Convert uids of 32 hex digits to (n,) S16. Raises ExportError naming the first that is not one."""
    import numpy as np

    try:
        raw = bytes.fromhex("".join(texts))  # type: ignore[arg-type]  # None raises TypeError
        if len(raw) == 16 * len(texts) and all(len(text or "") == 32 for text in texts):
            return np.frombuffer(raw, _RAW)
    except (TypeError, ValueError):
        pass
    number, wrong = next((n, text) for n, text in enumerate(texts, first) if not _is_uid(text))
    raise ExportError(f"{where} {number:,} is not a uid: {str(wrong)[:80]!r}. Expected 32 hexadecimal digits.")


def pairs_of(uids: "np.ndarray") -> "np.ndarray":
    """Convert uids, (n,) S16, to DataComp's pairs of integers, (n,) "u8,u8"."""
    import numpy as np

    words = np.ascontiguousarray(uids).view(">u8").reshape(-1, 2)
    pairs = np.empty(len(words), UID_PAIR)
    pairs["f0"], pairs["f1"] = words[:, 0], words[:, 1]
    return pairs


def _is_uid(text: str | None) -> bool:
    return text is not None and len(text) == 32 and not set(text.lower()) - set("0123456789abcdef")


def _read_text(path: str) -> "np.ndarray":
    import numpy as np

    parts, lines, number, first = [np.empty(0, _RAW)], list[str | None](), 0, 1
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        for line in file:
            number += 1
            if text := line.strip():
                lines.append(text)
            elif lines:
                parts.append(parse_uids(lines, f"{path}: line", first))
                lines = []
            if not lines:
                first = number + 1
            elif len(lines) >= _CHUNK:
                parts.append(parse_uids(lines, f"{path}: line", first))
                lines, first = [], number + 1
    if lines:
        parts.append(parse_uids(lines, f"{path}: line", first))
    return np.concatenate(parts)


def _read_parquet(path: str) -> "np.ndarray":
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts, row = [np.empty(0, _RAW)], 0
    try:
        with pq.ParquetFile(path) as parquet:
            if "uid" not in parquet.schema_arrow.names:
                raise ExportError(f"{path} has no column uid, but: {', '.join(parquet.schema_arrow.names)}.")
            for batch in parquet.iter_batches(columns=["uid"]):
                parts.append(parse_uids(batch.column(0).cast(pa.string()).to_pylist(), f"{path}: row", row))
                row += len(batch)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ExportError(f"{path} cannot be read as parquet: {error}") from error
    return np.concatenate(parts)


def _read_npy(path: str) -> "np.ndarray":
    import numpy as np

    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise ExportError(f"{path} cannot be read as npy: {error}") from error
    if stored.ndim != 1:
        raise ExportError(f"{path} has the shape {stored.shape}: expected one uid per element, (n,).")
    if stored.dtype == np.dtype(UID_PAIR):
        words = np.empty((len(stored), 2), ">u8")
        words[:, 0], words[:, 1] = stored["f0"], stored["f1"]
        return words.reshape(-1).view(_RAW)
    if stored.dtype.kind in "US":
        texts = [text if isinstance(text, str) else text.decode("latin-1") for text in stored.tolist()]
        return parse_uids(texts, f"{path}: element", 0) if texts else np.empty(0, _RAW)
    raise ExportError(f"{path} has the dtype {stored.dtype}: expected {UID_PAIR} (DataComp) or text.")
