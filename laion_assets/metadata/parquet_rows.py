"""The rows of one parquet file, with the same rules and identity as those of a CSV: published metadata, or one's own.

Columns are found by name in any order and letter case. LAION-400M's and LAION-2B's parquet files have the recipe's
names, LAION-5B's lack some, Re-LAION's are in lower case with `caption` for TEXT. Other columns (`hash`, `LANGUAGE`,
`pwatermark`, `punsafe`, `AESTHETIC_SCORE`, ...) are not carried on.
"""

import json
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_assets.errors import SourceError
from laion_assets.metadata.identity import Positions
from laion_assets.metadata.quarantine import Reject, file_mark, reject_rows
from laion_assets.metadata.reasons import FileState, Reason
from laion_assets.metadata.schema import WANTED_COLUMNS
from laion_assets.metadata.settings import MetadataSettings
from laion_assets.metadata.typed_rows import typed_rows

ALIASES = {"caption": "TEXT", "alt_text": "TEXT", "license": "LICENSE", "nsfw": "NSFW", "key": "SAMPLE_ID"}
"""Names that stand for a wanted column where the file has none of its own name; `key` only if it is a number."""
NEEDED = ("URL", "TEXT")
_NUMBERS = ("SAMPLE_ID", "HEIGHT", "WIDTH", "similarity")
_BATCH_ROWS = 10_000


def parquet_rows_of_file(
    file: IO[bytes], source_file: str, settings: MetadataSettings, positions: Positions
) -> Iterator[pa.RecordBatch]:
    """Batches of ROW_SCHEMA: each row of the file as a row or a reject, and one mark for the file.

    Raises SourceError naming the file if its footer or data are corrupt, if it has no URL or TEXT, or a column is of a
    kind that cannot hold what its name says.
    """
    parquet, columns = open_parquet(file, source_file)
    number = 0
    for batch in _batches(parquet, sorted(set(columns.values())), source_file):
        numbers = np.arange(number + 1, number + 1 + batch.num_rows, dtype=np.int64)
        number += batch.num_rows
        batch, numbers, rejects = _readable(batch, numbers, columns)
        tokens = {wanted: _text(batch.column(name)) for wanted, name in columns.items()}
        rows, more = typed_rows(tokens, numbers, _raw_of(batch), source_file, settings, positions)
        yield rows
        yield reject_rows(rejects + more, source_file, positions)
    yield file_mark(source_file, FileState.READ if number else FileState.EMPTY, positions)


def open_parquet(file: IO[bytes], source_file: str) -> tuple[Any, dict[str, str]]:
    """The file as a pyarrow ParquetFile, and its column for each wanted one. Raises SourceError naming the file."""
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise SourceError(f"{source_file} is no readable parquet file ({error}): mend or remove it.") from error
    return parquet, _columns(parquet.schema_arrow, source_file)


def _batches(parquet: Any, names: list[str], source_file: str) -> Iterator[pa.RecordBatch]:
    try:
        yield from parquet.iter_batches(batch_size=_BATCH_ROWS, columns=names)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{source_file} is damaged ({error}): fetch it again, or remove it.") from error


def _columns(schema: pa.Schema, source_file: str) -> dict[str, str]:
    """Wanted column -> the file's column that holds it."""
    by_lower = {name.lower(): name for name in schema.names}
    found = {wanted: by_lower[wanted.lower()] for wanted in WANTED_COLUMNS if wanted.lower() in by_lower}
    for alias, wanted in ALIASES.items():
        if alias in by_lower and wanted not in found:
            name = by_lower[alias]
            if wanted != "SAMPLE_ID" or pa.types.is_integer(schema.field(name).type):
                found[wanted] = name
    for needed in NEEDED:
        if needed not in found:
            raise SourceError(
                f"{source_file} has no column {needed}: it has {', '.join(schema.names)}. Rename the one that holds it."
            )
    for wanted, name in found.items():
        kind = schema.field(name).type
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)
        if not (_is_text(kind) or (is_number and wanted in _NUMBERS) or (pa.types.is_null(kind) and wanted != "URL")):
            fitting = "a number or a string" if wanted in _NUMBERS else "a string"
            raise SourceError(f"{source_file}: column {name} is {kind}, and has to be {fitting}.")
    return found


def _is_text(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value))


def _readable(
    batch: pa.RecordBatch, numbers: np.ndarray, columns: dict[str, str]
) -> tuple[pa.RecordBatch, np.ndarray, list[Reject]]:
    """The rows whose strings are UTF-8, as the format wants them; others become rejects."""
    try:
        batch.validate(full=True)
        return batch, numbers, []
    except pa.ArrowInvalid:
        pass
    texts = [
        batch.column(name).cast(pa.binary()).to_pylist() for name in columns.values() if _is_utf8_column(batch, name)
    ]
    bad = [row for row in range(batch.num_rows) if any(not _is_utf8(text[row]) for text in texts)]
    rejects = []
    for row in bad:
        raw = b"|".join(text[row] or b"" for text in texts)
        rejects.append(Reject.of(int(numbers[row]), Reason.INVALID_UTF8, raw))
    kept = np.setdiff1d(np.arange(batch.num_rows), bad)
    return batch.take(pa.array(kept)), numbers[kept], rejects


def _is_utf8_column(batch: pa.RecordBatch, name: str) -> bool:
    kind = batch.schema.field(name).type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_utf8(text: bytes | None) -> bool:
    try:
        (text or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def _text(column: pa.Array) -> pa.Array:
    """Any column as strings, null as the empty one, as in a CSV; whole numbers in a column of floats as such."""
    if pa.types.is_floating(column.type) and pc.all(pc.equal(pc.floor(column), column)).as_py():
        with_range = pc.all(pc.less(pc.abs(column), 2.0**53)).as_py()
        column = column.cast(pa.int64()) if with_range else column
    return pc.fill_null(column.cast(pa.string()), "")


def _raw_of(batch: pa.RecordBatch) -> Callable[[int], bytes]:
    """A row as a JSON object, for the rejects file: parquet has no bytes of its own for a row."""

    def raw(row: int) -> bytes:
        (fields,) = batch.slice(row, 1).to_pylist()
        return json.dumps(fields, sort_keys=True, default=str, ensure_ascii=False).encode()

    return raw
