"""Write a shard's tar and parquet as img2dataset's webdataset writer does, but sorted by key and with a fixed `mtime`.

So the same rows produce the same bytes, in any order of addition. The encoded images are kept in a spool file (200
MB for 10,000 images) and written in key order at the end.
"""

import json
import tarfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from laion_assets.reasons import Reason
from laion_assets.stages.image_shards.shard.sample_tar import END_OF_ARCHIVE, write_member

if TYPE_CHECKING:
    import pyarrow as pa

REASON_COLUMN = "reason"
Row = dict[str, Any]


class ShardWriter:
    """Collects the rows of one shard and writes `tar` and `parquet` on `close`. `schema` ends in REASON_COLUMN."""

    def __init__(self, tar: Path, parquet: Path, schema: "pa.Schema", encode_format: str) -> None:
        self._tar = tar
        self._parquet = parquet
        self._schema = schema
        self._encode_format = encode_format
        self._spool = _Spool(tar.with_suffix(".spool"))
        self._rows: dict[str, tuple[Row, Reason]] = {}

    def add(self, row: Row, reason: Reason, image: bytes | None = None) -> None:
        """Add one row with all columns of the schema except the reason, in that order. Raises OSError."""
        if image is not None:
            self._spool.put(row["key"], image)
        self._rows[row["key"]] = (row, reason)

    def close(self) -> None:
        """Write both files and delete the spool. Raises OSError."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [self._rows[key] for key in sorted(self._rows)]
        with self._tar.open("wb") as tar:
            for row, _ in rows:
                image = self._spool.get(row["key"])
                if image is not None:
                    self._write_sample(tar, row, image)
            tar.write(END_OF_ARCHIVE)
            tar.write(bytes(-tar.tell() % tarfile.RECORDSIZE))
        self._spool.remove()
        columns = {name: [row[name] for row, _ in rows] for name in self._schema.names if name != REASON_COLUMN}
        columns[REASON_COLUMN] = [reason.value for _, reason in rows]
        with pq.ParquetWriter(self._parquet, self._schema) as writer:
            if rows:
                writer.write_table(pa.Table.from_pydict(columns, self._schema))

    def _write_sample(self, tar: IO[bytes], row: Row, image: bytes) -> None:
        members = {
            self._encode_format: image,
            "json": json.dumps(row, indent=4).encode(),
            "txt": (row["caption"] or "").encode(),
        }
        for suffix in sorted(members):
            write_member(tar, f"{row['key']}.{suffix}", members[suffix])


class _Spool:
    """A file of images by key: written in the order they are added, read in any order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] = path.open("w+b")
        self._places: dict[str, tuple[int, int]] = {}
        self._end = 0

    def put(self, key: str, content: bytes) -> None:
        self._file.write(content)
        self._places[key] = (self._end, len(content))
        self._end += len(content)

    def get(self, key: str) -> bytes | None:
        place = self._places.get(key)
        if place is None:
            return None
        self._file.seek(place[0])
        return self._file.read(place[1])

    def remove(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)
