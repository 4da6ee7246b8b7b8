"""The columns of the metadata half: what crawls give, what is published, and what crosses Spark's one exchange."""

import pyarrow as pa

WANTED_COLUMNS = ("SAMPLE_ID", "URL", "TEXT", "HEIGHT", "WIDTH", "LICENSE", "NSFW", "similarity")
"""The columns of the recipe (laion-prepro, laion400m/deduplicate), by the names that CSV headers give them."""

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

`HEIGHT` and `WIDTH` are stored as in the source, or exchanged where `dedup.width_height_swapped` says that the
source has them swapped; `similarity` is in [-1, 1] or null; an empty field is null. `source_file` is relative to
`raw_csv/`; `source_row` is the number of the record in its file, 1 for the first after the header, malformed records
counted and blank lines not.
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
"""Columns of `dedup_rejects/KEY.parquet`: each record that was quarantined or filtered, and why.

A quarantined one has its first `RAW_BYTES` in `raw` and its length in `raw_bytes`; a filtered one has neither:
`source_file` and `source_row` find it in `raw_csv/`, unchanged.
"""

RAW_BYTES = 64 * 1024
"""Bytes of a quarantined record that are kept."""

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
"""What readers give. `position` is the partition's place among those asked for; `digest` orders rows in it.

`kind` is `ROW`, `REJECT`, or `MARK` for the one row by which each file says what became of it (in `reason`). `digest`
is the uid of a row and of a filtered one; of a quarantined record the md5 of its raw bytes, of a mark that of the
file's name.
"""
ROW, REJECT, MARK = 0, 1, 2

ROW_RUN = pa.schema([ROW_SCHEMA.field("digest"), *_FIELDS])
"""Rows that cross the exchange."""
REJECT_RUN = pa.schema([ROW_SCHEMA.field("digest"), *REJECTS_SCHEMA])
"""Rejects that cross the exchange."""

EXCHANGE_SCHEMA = pa.schema(
    [
        pa.field("position", pa.int32(), nullable=False),
        pa.field("rows", pa.binary(), nullable=False),
        pa.field("rejects", pa.binary(), nullable=False),
        pa.field("counts", pa.string(), nullable=False),
    ]
)
"""What crosses Spark's one exchange: a run of a partition's rows and one of its rejects a row, see `runs.py`."""
EXCHANGE_DDL = "position int not null, rows binary not null, rejects binary not null, counts string not null"
"""`EXCHANGE_SCHEMA` in Spark's words."""
