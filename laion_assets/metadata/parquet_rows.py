"""The rows of one parquet file, with the same rules and identity as those of a CSV: published metadata, or one's own.

LAION-400M's and LAION-2B's parquet files have the recipe's column names, LAION-5B's lack some, Re-LAION's are in lower
case with `caption` for TEXT: columns are found by any of these names, in any order and letter case.
"""

import json
from collections.abc import Iterator
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_assets.errors import SourceError
from laion_assets.metadata.identity import Positions
from laion_assets.metadata.quarantine import reject_rows
from laion_assets.metadata.reasons import FileState
from laion_assets.metadata.schema import WANTED_COLUMNS
from laion_assets.metadata.settings import MetadataSettings
from laion_assets.metadata.typed_rows import file_mark, typed_rows

ALIASES = {"caption": "TEXT", "alt_text": "TEXT", "license": "LICENSE", "nsfw": "NSFW", "key": "SAMPLE_ID"}
"""Names that stand for a wanted column where the file has none of its own name; `key` only if it is a number."""
NEEDED = ("URL", "TEXT")
_BATCH_ROWS = 10_000


def parquet_rows_of_file(
    file: IO[bytes], source_file: str, settings: MetadataSettings, positions: Positions
) -> Iterator[pa.RecordBatch]:
    """Batches of ROW_SCHEMA: each row of the file as a row or a reject, and one mark for the file.

    Raises SourceError naming the file if its footer is corrupt, or if it has no URL or TEXT, or they are not strings.
    """
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{source_file} is no readable parquet file ({error}): mend or remove it.") from error
    columns = _columns(parquet.schema_arrow, source_file)
    number = 0
    for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=sorted(set(columns.values()))):
        numbers = np.arange(number + 1, number + 1 + batch.num_rows, dtype=np.int64)
        number += batch.num_rows
        tokens = {wanted: _text(batch.column(name)) for wanted, name in columns.items()}
        raw = pa.array([_raw(row) for row in batch.to_pylist()], pa.binary())
        rows, rejects = typed_rows(tokens, numbers, raw, source_file, settings, positions)
        yield rows
        yield reject_rows(rejects, source_file, positions)
    yield file_mark(source_file, FileState.READ if number else FileState.EMPTY, positions)


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
        kind = schema.field(found[needed]).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)):
            raise SourceError(f"{source_file}: column {found[needed]} is {kind}, and has to be a string.")
    return found


def _text(column: pa.Array) -> pa.Array:
    """Any column as strings, null as the empty one, as in a CSV."""
    return pc.fill_null(column.cast(pa.string()), "")


def _raw(row: dict[str, object]) -> bytes:
    return json.dumps(row, sort_keys=True, default=str, ensure_ascii=False).encode()
