"""Columns of a parquet file as strings: the types that a wanted column may have, and the conversion of their values.

Texts are read as indices into a dictionary, so that a value that repeats a million times is in memory once.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_assets.errors import SourceError
from laion_assets.tables.column_names import find_columns
from laion_assets.tables.column_rules import ColumnRules
from laion_assets.tables.columns import WANTED_COLUMNS

NUMBERS = ("SAMPLE_ID", "HEIGHT", "WIDTH", "similarity")
"""Wanted columns that may be numbers or strings."""
_EXACT_BELOW = {16: 2.0**11, 32: 2.0**24, 64: 2.0**53}
"""By the bits of a float type: whole numbers below this are exact."""


NEEDED_SETTINGS = {"URL": "dedup.url_column", "TEXT": "dedup.caption_column"}
"""The settings that name the needed columns."""


def find_wanted_columns(schema: pa.Schema, source_file: str, rules: ColumnRules) -> dict[str, str]:
    """Return the name of the file's column for each wanted or kept one. Raises SourceError naming file and column.

    `key` is used for SAMPLE_ID only if its type is an integer.
    """
    without = frozenset(name for name in ("key",) if not _is_integer_column(schema, name))
    found = find_columns(schema.names, rules, without)
    if found.repeated:
        wanted = found.repeated[0]
        name = schema.names[found.places[wanted]]
        alike = [each for each in schema.names if each.casefold() == name.casefold()]
        raise SourceError(
            f"{source_file} has several columns for {wanted}: {', '.join(alike)}. Rename all but one of them."
        )
    columns = {wanted: schema.names[place] for wanted, place in found.places.items()}
    for needed in rules.needed:
        if needed not in columns:
            raise SourceError(
                f"{source_file} has no column {rules.chosen.get(needed, needed)}. It has {', '.join(schema.names)}. "
                f"Set {NEEDED_SETTINGS[needed]} to the right one."
            )
    for kept in rules.kept_names:
        if kept not in columns:
            raise SourceError(
                f"{source_file} has no column {kept}. It has {', '.join(schema.names)}. Correct dedup.keep_columns."
            )
        kind = schema.field(found.places[kept]).type
        if not (is_text(kind) or _is_number(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
            raise SourceError(
                f"{source_file}: the type of column {columns[kept]} is {kind}, and a kept column must be a string, a "
                "number or a boolean. Remove it from dedup.keep_columns."
            )
    for wanted in WANTED_COLUMNS:
        if wanted in columns:
            kind = schema.field(found.places[wanted]).type
            if not (is_text(kind) or (wanted in NUMBERS and _is_number(kind)) or _is_allowed_null(wanted, kind)):
                fitting = "a number or a string" if wanted in NUMBERS else "a string"
                raise SourceError(f"{source_file}: the type of column {columns[wanted]} is {kind}, expected {fitting}.")
    return columns


def _is_integer_column(schema: pa.Schema, name: str) -> bool:
    return all(pa.types.is_integer(field.type) for field in schema if field.name.casefold() == name)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_allowed_null(wanted: str, kind: pa.DataType) -> bool:
    return wanted != "URL" and bool(pa.types.is_null(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column type holds strings. Binary types do: writers without a string type store UTF-8 as bytes."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(check(value) for check in checks) or bool(pa.types.is_fixed_size_binary(value))


@dataclass(frozen=True)
class TextColumn:
    """n values as bytes. `indices` (n,) point into `values`; if None, `values` has n values.

    `sizes` (n,) are the lengths in bytes, 0 for null. `is_text` is False for numbers.
    """

    values: pa.Array
    indices: pa.Array | None
    sizes: np.ndarray
    is_text: bool

    @classmethod
    def of(cls, column: pa.Array) -> "TextColumn":
        """Convert a column of a text or number type to its form in a CSV file. Null becomes the empty string."""
        if not pa.types.is_dictionary(column.type):
            has_texts = is_text(column.type)
            texts = _to_bytes(column if has_texts else format_numbers(column))
            return cls(texts, None, pc.binary_length(texts).to_numpy(zero_copy_only=False), has_texts)
        values = _to_bytes(column.dictionary)
        sizes = pc.fill_null(pc.binary_length(values).take(column.indices), 0)
        return cls(values, column.indices, sizes.to_numpy(zero_copy_only=False), True)

    def take(self, rows: np.ndarray) -> pa.BinaryArray:
        """Return the values of the given rows, in order. They must have less than 2 GiB."""
        found = self.values
        if self.indices is not None:
            found = found.take(self.indices.take(pa.array(rows)))
        elif len(rows) < len(found):
            found = found.take(pa.array(rows))
        return pc.fill_null(found, b"").cast(pa.binary())

    def head(self, row: int, most: int) -> bytes:
        """Return the first bytes of one value."""
        place = row if self.indices is None else self.indices[row].as_py()
        return b"" if place is None else bytes(self.values[place].as_buffer()[:most])


def _to_bytes(texts: pa.Array) -> pa.Array:
    """Convert strings or bytes to bytes. Null becomes empty."""
    kind = texts.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        found = texts.view(pa.binary())
    else:
        found = texts.cast(pa.large_binary())
    return pc.fill_null(found, b"") if found.null_count else found


def format_numbers(column: pa.Array) -> pa.Array:
    """Format numbers as strings that parse as the same number. Whole floats have no decimal point. NaN is `nan`.

    A whole float that is too large to be exact gets an exponent. So it is invalid as an id or a size, as it may stand
    for another number.
    """
    kind = column.type
    if not pa.types.is_floating(kind):  # "true" and "false" for booleans
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
