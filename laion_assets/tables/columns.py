"""Schemas of `dedup_parquet`: columns of the input, of the output files, and of Spark's exchange."""

from collections.abc import Sequence

import pyarrow as pa

from laion_assets.tables.column_rules import KeptColumn

WANTED_COLUMNS = ("SAMPLE_ID", "URL", "TEXT", "HEIGHT", "WIDTH", "LICENSE", "NSFW", "similarity")
"""The columns of the recipe (laion-prepro, laion400m/deduplicate), by their names in CSV headers."""

_FIELDS = [
    pa.field("SAMPLE_ID", pa.int64()),
    pa.field("URL", pa.string()),
    pa.field("TEXT", pa.string()),
    pa.field("HEIGHT", pa.int32()),
    pa.field("WIDTH", pa.int32()),
    pa.field("LICENSE", pa.string()),
    pa.field("NSFW", pa.string()),
    pa.field("similarity", pa.float64()),
    pa.field("source_file", pa.string()),
    pa.field("source_row", pa.int64()),
]

DEDUP_SCHEMA = pa.schema(
    [pa.field("uid", pa.string(), nullable=False)]
    + [field.with_nullable(field.name not in ("URL", "source_file", "source_row")) for field in _FIELDS]
)
"""Columns of `dedup_parquet/KEY.parquet`.

`HEIGHT` and `WIDTH` are stored as in the source, or swapped if `dedup.width_height_swapped` is set. `similarity` is in
[-1, 1] or null. An empty field is null. `source_file` is relative to `raw_csv/`. `source_row` is the number of the
record in its file, 1 for the first record after the header; malformed records count, blank lines do not.
"""

REJECTS_SCHEMA = pa.schema(
    [
        pa.field("source_file", pa.string(), nullable=False),
        pa.field("source_row", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("raw", pa.binary(), nullable=False),
        pa.field("raw_bytes", pa.int64(), nullable=False),
    ]
)
"""Columns of `dedup_rejects/KEY.parquet`: each record that was quarantined or filtered, with its reason.

A quarantined record has its first `RAW_BYTES` in `raw`, and its length in `raw_bytes`. A filtered record has neither:
`source_file` and `source_row` identify it in `raw_csv/`.
"""

RAW_BYTES = 64 * 1024
"""Maximum number of bytes that are kept of a quarantined record."""

ROW_SCHEMA = pa.schema(
    [
        pa.field("position", pa.int32(), nullable=False),
        pa.field("kind", pa.int8(), nullable=False),
        pa.field("digest", pa.binary(16), nullable=False),
        *_FIELDS,
        pa.field("notes", pa.int32(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("raw", pa.binary()),
        pa.field("raw_bytes", pa.int64()),
    ]
)
"""Output of the readers. `position` is the index of the partition among the requested ones.

`kind` is `ROW`, `REJECT`, or `MARK` for the one row that records the state of a file (in `reason`). `digest` is the
sort key: the uid of a row or a filtered row, the md5 of the raw bytes of a quarantined record, the md5 of a file's name
for a mark.
"""
ROW, REJECT, MARK = 0, 1, 2

ROW_RUN = pa.schema([ROW_SCHEMA.field("digest"), *_FIELDS])
"""Schema of a sorted run of rows."""
REJECT_RUN = pa.schema([ROW_SCHEMA.field("digest"), *REJECTS_SCHEMA])
"""Schema of a sorted run of rejects."""


def with_kept(schema: pa.Schema, kept: Sequence[KeptColumn]) -> pa.Schema:
    """Return a schema of rows with the kept columns (`dedup.keep_columns`) after its own."""
    for column in kept:
        schema = schema.append(pa.field(column.name, pa.type_for_alias(column.type)))
    return schema


EXCHANGE_SCHEMA = pa.schema(
    [
        pa.field("position", pa.int32(), nullable=False),
        pa.field("rows", pa.binary(), nullable=False),
        pa.field("rejects", pa.binary(), nullable=False),
        pa.field("counts", pa.string(), nullable=False),
    ]
)
"""Schema of Spark's exchange: each row has a sorted run of rows and one of rejects, see `sorted_runs.py`."""
EXCHANGE_DDL = "position int not null, rows binary not null, rejects binary not null, counts string not null"
"""`EXCHANGE_SCHEMA` as a Spark DDL string."""
