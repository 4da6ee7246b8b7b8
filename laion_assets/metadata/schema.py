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

`HEIGHT` and `WIDTH` are stored as in the source, or the right way round where `metadata.swapped_sides` says that the
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
        pa.field("place", pa.string(), nullable=False),
        *_FIELDS,
        pa.field("notes", pa.int32(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("raw", pa.binary()),
        pa.field("raw_bytes", pa.int64()),
    ]
)
"""What crosses the exchange. `position` is the partition's place among those asked for; `place` orders rows in it.

`place` is the uid of a row; `REJECT_PLACE` and the md5 of its raw bytes for a quarantined record, and the uid for a
filtered one; `FILE_PLACE` and the md5 of the file's name for the one mark that each file sends, whose `reason` is what
became of the file. The prefixes sort after every hex digit, so a partition's rows come first, then its rejects, then
its marks.
"""
REJECT_PLACE = "r"
FILE_PLACE = "s"

ROW_DDL = (
    "position int not null, place string not null, SAMPLE_ID bigint, URL string, TEXT string, HEIGHT int, WIDTH int, "
    "LICENSE string, NSFW string, similarity double, source_file string, source_row bigint, notes int not null, "
    "reason string, raw binary, raw_bytes bigint"
)
"""`ROW_SCHEMA` in Spark's words."""
