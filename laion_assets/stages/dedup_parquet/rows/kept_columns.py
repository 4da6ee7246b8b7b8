"""The kept columns (`dedup.keep_columns`): values of the source as typed columns, or null with a note."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_assets.stages.dedup_parquet.rows.normalise import parse_whole_number
from laion_assets.tables.column_rules import KeptColumn
from laion_assets.tables.row_reasons import Note

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def parse_kept_columns(
    tokens: dict[str, pa.Array], kept: Sequence[KeptColumn], notes: np.ndarray
) -> dict[str, pa.Array]:
    """Convert the kept columns of n rows from strings (n, never null) to their types. Empty texts become null.

    A text that is not a value of the type, and a number that is not finite, become null and get a note.
    """
    found = {}
    for column in kept:
        texts = tokens[column.name]
        if column.type == "string":
            found[column.name] = pc.if_else(pc.equal(texts, ""), None, texts)
        else:
            parse, kind = _PARSERS[column.type], pa.type_for_alias(column.type)
            stripped = [text.strip() for text in texts.to_pylist()]
            values = [parse(text) for text in stripped]
            invalid = [row for row, text in enumerate(stripped) if text and values[row] is None]
            notes[invalid] |= Note.KEPT_VALUE_INVALID
            found[column.name] = pa.array(values, kind)
    return found


def _parse_integer(text: str) -> int | None:
    return parse_whole_number(text, -(1 << 63), (1 << 63) - 1)


def _parse_float(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _parse_boolean(text: str) -> bool | None:
    return _BOOLEANS.get(text.lower())


_PARSERS: dict[str, Callable[[str], object]] = {
    "int64": _parse_integer,
    "float64": _parse_float,
    "bool": _parse_boolean,
}
