"""A parquet file's columns as text: which kinds hold a wanted column, and what their values are as strings.

Texts are read as indices into a dictionary, so that a value which a file repeats a million times is held once.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_assets.errors import SourceError
from laion_assets.tables.column_names import find_columns
from laion_assets.tables.columns import WANTED_COLUMNS

NEEDED = ("URL", "TEXT")
NUMBERS = ("SAMPLE_ID", "HEIGHT", "WIDTH", "similarity")
"""Wanted columns that may be numbers or strings."""
_EXACT_BELOW = {16: 2.0**11, 32: 2.0**24, 64: 2.0**53}
"""By the bits of a float: smaller whole numbers are exact; from here on one float stands for several."""


def wanted_columns(schema: pa.Schema, source_file: str) -> dict[str, str]:
    """Wanted column -> the file's column that holds it. Raises SourceError naming file and column.

    `key` stands for SAMPLE_ID only if it is a whole number.
    """
    without = frozenset(name for name in ("key",) if not _is_whole(schema, name))
    found = find_columns(schema.names, without)
    if found.repeated:
        wanted = found.repeated[0]
        name = schema.names[found.places[wanted]]
        alike = [each for each in schema.names if each.casefold() == name.casefold()]
        raise SourceError(
            f"{source_file} has several columns that could be {wanted}: {', '.join(alike)}. Rename all but one of them."
        )
    columns = {wanted: schema.names[place] for wanted, place in found.places.items()}
    for needed in NEEDED:
        if needed not in columns:
            raise SourceError(
                f"{source_file} has no column {needed}: it has {', '.join(schema.names)}. Rename the one that holds it."
            )
    for wanted in WANTED_COLUMNS:
        if wanted in columns:
            kind = schema.field(found.places[wanted]).type
            if not (is_text(kind) or (wanted in NUMBERS and _is_number(kind)) or _may_be_null(wanted, kind)):
                fitting = "a number or a string" if wanted in NUMBERS else "a string"
                raise SourceError(f"{source_file}: column {columns[wanted]} is {kind}, and has to be {fitting}.")
    return columns


def _is_whole(schema: pa.Schema, name: str) -> bool:
    return all(pa.types.is_integer(field.type) for field in schema if field.name.casefold() == name)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _may_be_null(wanted: str, kind: pa.DataType) -> bool:
    return wanted != "URL" and bool(pa.types.is_null(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this kind holds strings; bytes count as UTF-8, as writers without a string type store it."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(check(value) for check in checks) or bool(pa.types.is_fixed_size_binary(value))


@dataclass(frozen=True)
class TextColumn:
    """n values as bytes: `indices` (n,) into `values`, or none: then `values` has n. `sizes` (n,) int, null is 0.

    `is_text` is False for what was a number.
    """

    values: pa.Array
    indices: pa.Array | None
    sizes: np.ndarray
    is_text: bool

    @classmethod
    def of(cls, column: pa.Array) -> "TextColumn":
        """A column of a text or number type, as it would be in a CSV; null is the empty string."""
        if not pa.types.is_dictionary(column.type):
            has_texts = is_text(column.type)
            texts = _bytes_of(column if has_texts else number_texts(column))
            return cls(texts, None, pc.binary_length(texts).to_numpy(zero_copy_only=False), has_texts)
        values = _bytes_of(column.dictionary)
        sizes = pc.fill_null(pc.binary_length(values).take(column.indices), 0)
        return cls(values, column.indices, sizes.to_numpy(zero_copy_only=False), True)

    def take(self, rows: np.ndarray) -> pa.BinaryArray:
        """The values of these rows, in order, whose bytes must be less than 2 GiB."""
        found = self.values
        if self.indices is not None:
            found = found.take(self.indices.take(pa.array(rows)))
        elif len(rows) < len(found):
            found = found.take(pa.array(rows))
        return pc.fill_null(found, b"").cast(pa.binary())

    def head(self, row: int, most: int) -> bytes:
        """The first bytes of one value."""
        place = row if self.indices is None else self.indices[row].as_py()
        return b"" if place is None else bytes(self.values[place].as_buffer()[:most])


def _bytes_of(texts: pa.Array) -> pa.Array:
    """Strings or bytes as bytes, null as none."""
    kind = texts.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        found = texts.view(pa.binary())
    else:
        found = texts.cast(pa.large_binary())
    return pc.fill_null(found, b"") if found.null_count else found


def number_texts(column: pa.Array) -> pa.Array:
    """Numbers as strings that read back as the same number: a whole number in a column of floats without a point.

    A whole number that is too large to be exact in a column of floats has an exponent: as an id or a size it is
    invalid, for it may stand for another one. NaN is `nan`.
    """
    kind = column.type
    if not pa.types.is_floating(kind):
        return column.cast(pa.string())
    if pa.types.is_float16(kind):
        written = [None if value is None else str(value) for value in column.to_pylist()]
        column = pa.array(written, pa.string()).cast(pa.float32())
    doubles, texts = column.cast(pa.float64()), column.cast(pa.string())
    is_whole = pc.and_(pc.is_finite(doubles), pc.equal(pc.floor(doubles), doubles))
    is_exact = pc.fill_null(pc.and_(is_whole, pc.less(pc.abs(doubles), _EXACT_BELOW[kind.bit_width])), False)
    is_vague = pc.fill_null(pc.and_(is_whole, pc.invert(is_exact)), False)
    if pc.any(is_vague).as_py():
        with_exponent = pc.if_else(pc.match_substring(texts, "e"), texts, pc.binary_join_element_wise(texts, "e0", ""))
        texts = pc.if_else(is_vague, with_exponent, texts)
    if not pc.any(is_exact).as_py():
        return texts
    return pc.if_else(is_exact, pc.if_else(is_exact, doubles, 0.0).cast(pa.int64()).cast(pa.string()), texts)
