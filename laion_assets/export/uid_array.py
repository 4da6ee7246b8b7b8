"""Write uids as DataComp's array: npy of dtype "u8,u8", sorted, without duplicates.

DataComp's resharder (`resharder.py --subset-file`) memory-maps the file and looks up the two halves of each sample's
uid by binary search. A duplicate would copy its sample twice.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from laion_assets.export.rows.uid_list import UID_PAIR, pairs_of, parse_uids

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_CHUNK = 1 << 18


def write_uid_array(path: Path, tables: "Iterable[pa.Table]") -> int:
    """Write the column `uid` of all tables to a local npy file, and return the number of distinct uids.

    The uids are first written to a file beside it. Only if they are not in order are they sorted there, memory-mapped.
    """
    import numpy as np

    raw = path.with_name(path.name + ".raw")
    last, ordered, rows = np.asarray([b""], "S16"), True, 0
    with raw.open("wb") as file:
        for table in tables:
            uids = parse_uids(table["uid"].to_pylist(), "row", 0)
            if not len(uids):
                continue
            joined = np.concatenate([last, uids])
            ordered = ordered and bool((joined[1:] > joined[:-1]).all())
            last = uids[-1:]
            file.write(uids.tobytes())
            rows += len(uids)
    if not ordered:
        stored = np.memmap(raw, "S16", "r+", shape=(rows,))
        stored.sort()
        stored.flush()
        del stored
    distinct = _write_npy(path, raw, rows)
    raw.unlink()
    return distinct


def _write_npy(path: Path, raw: Path, rows: int) -> int:
    """Write sorted raw uids as npy without duplicates, in two passes: count, then write. Return their number."""
    import numpy as np

    stored = np.memmap(raw, "S16", "r", shape=(rows,)) if rows else np.empty(0, "S16")
    starts = range(0, rows, _CHUNK)
    distinct = sum(len(_distinct(stored, start)) for start in starts)
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(UID_PAIR)), "fortran_order": False, "shape": (distinct,)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in starts:
            file.write(pairs_of(_distinct(stored, start)).tobytes())
    return distinct


def _distinct(stored: "np.ndarray", start: int) -> "np.ndarray":
    """Return the uids of the chunk from `start` that differ from the one before them."""
    import numpy as np

    part = np.asarray(stored[start : start + _CHUNK])
    kept = np.ones(len(part), bool)
    kept[1:] = part[1:] != part[:-1]
    kept[0] = not start or part[0] != stored[start - 1]
    return part[kept]
