"""img2dataset's webdataset writer with members in the order of their keys, fixed times, and a reason for every row.

img2dataset writes samples as they complete, so that no two shards are equal. Here the encoded pictures wait in a spool
file (200 MB for 10,000 of them) and are written in key order at the end. Worker-side: imports img2dataset.
"""

import json
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from img2dataset.writer import WebDatasetSampleWriter

from laion_assets.images.exif import technical_exif
from laion_assets.images.reasons import Reason
from laion_assets.images.sample_tar import write_member

REASON_COLUMN = "reason"


class SortedSampleWriter(WebDatasetSampleWriter):
    """Writes one shard's tar and parquet on `close()`, rows in the order of their keys.

    `expected` are the rows by key; a row that never comes (img2dataset drops those whose handling raised) is written
    with the reason `internal`. `keys` gives each row's key by the one that img2dataset counts out for it, which is
    another where only some rows of a shard are fetched. The first six arguments are img2dataset's.
    """

    def __init__(
        self,
        shard_id: int,
        output_folder: str,
        save_caption: bool,
        oom_shard_count: int,
        schema: pa.Schema,
        encode_format: str,
        *,
        expected: dict[str, dict[str, Any]],
        keys: dict[str, str],
        keep_personal_exif: bool = False,
    ) -> None:
        schema = schema.append(pa.field(REASON_COLUMN, pa.string()))
        super().__init__(shard_id, output_folder, save_caption, oom_shard_count, schema, encode_format)
        self.buffered_parquet_writer.buffer_size = max(len(expected), 1)
        self._expected = expected
        self._keys = keys
        self._keep_personal_exif = keep_personal_exif
        self._spool = _Spool(Path(output_folder) / "spool")
        self._disk_fault: OSError | None = None
        self._rows: dict[str, tuple[str | None, dict[str, Any]]] = {}

    def write(self, img_str: bytes | None, key: str, caption: str | None, meta: dict[str, Any]) -> None:
        """Keep one row until the shard is written; `img_str` is the encoded picture, None for a failure."""
        key = meta["key"] = self._keys[key]
        if not self._keep_personal_exif and "exif" in meta:
            meta["exif"] = technical_exif(meta["exif"])
        if img_str is not None:
            try:
                self._spool.put(key, img_str)
            except OSError as error:  # img2dataset would take a full disk for the row's fault
                self._disk_fault = error
                raise
        self._rows[key] = (caption, meta)

    def close(self) -> None:
        """Write tar and parquet, and remove the spool. Raises OSError when the disk failed before."""
        if self._disk_fault is not None:
            raise self._disk_fault
        written = 0
        for key in sorted(self._expected):
            caption, meta = self._rows.pop(key) if key in self._rows else (None, self._lost(key))
            picture = self._spool.get(key)
            if picture is not None:
                sample = {self.encode_format: picture, "json": json.dumps(meta, indent=4).encode()}
                if self.save_caption:
                    sample["txt"] = (caption or "").encode()
                for suffix in sorted(sample):
                    written += write_member(self.tar_fd, f"{key}.{suffix}", sample[suffix])
            reason = Reason.of_message(meta["status"], meta["error_message"])
            self.buffered_parquet_writer.write({**meta, REASON_COLUMN: reason.value})
        self._spool.remove()
        self.tarwriter.tarstream.offset = written  # what went past it, for the end of the archive that it writes
        super().close()

    def _lost(self, key: str) -> dict[str, Any]:
        meta: dict[str, Any] = dict.fromkeys(self.buffered_parquet_writer.schema.names)
        message = f"{Reason.INTERNAL.value}: img2dataset lost the row"
        return {**meta, **self._expected[key], "key": key, "status": Reason.INTERNAL.status, "error_message": message}


class _Spool:
    """Pictures by key in one file: written in the order they come, read in any."""

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
