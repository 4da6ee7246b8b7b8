"""The first bytes of text files, decoded, and of a bounded size."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, cast

from laion_assets.errors import SourceError
from laion_assets.http.listings.listing import Listed
from laion_assets.http.sources.range_file import open_range_file
from laion_assets.http.sources.source_policy import SourcePolicy
from laion_assets.http.urls.places import is_http
from laion_assets.stages.dedup_parquet.readers.csv_bytes import BrokenStreamError, read_blocks
from laion_assets.tables.row_reasons import Reason
from laion_assets.tables.table_limits import TableLimits

MAX_FILES = 10
"""Files that are opened: the first, the last, and some between them."""
MAX_WHOLE_BYTES = 4 << 20
"""Decoded size up to which a file is read as a whole, so that its rows are counted exactly."""
MAX_SAMPLE_BYTES = 1 << 20
"""Decoded bytes of a larger file that are looked at."""
_PIECE_BYTES = 64 << 10
"""Bytes read at once: few, so that little is read of a compressed file that is not decoded."""


@dataclass(frozen=True)
class TextSample:
    """The start of a file. `stored` bytes of the file were read for it; `is_whole`: the file has no more.

    `broken` is the reason why the rest of a compressed file cannot be read. `compression` is gz, zst or empty.
    """

    file: Listed
    data: bytes
    stored: int
    is_whole: bool
    compression: str = ""
    broken: Reason | None = None


def choose_files(files: Sequence[Listed], most: int = MAX_FILES) -> list[Listed]:
    """Choose files at equal distances, the first and the last among them."""
    if len(files) <= most:
        return list(files)
    return [files[number * (len(files) - 1) // (most - 1)] for number in range(most)]


def read_sample(file: Listed, policy: SourcePolicy) -> TextSample:
    """Read the start of a text file, decoded if it is gzip or Zstandard. Raises SourceError naming the file."""
    try:
        with open_file(file, policy) as opened:
            head = opened.read(4)
            opened.seek(0)
            counted = _CountedFile(opened)
            pieces, size, broken, is_whole = [], 0, None, True
            try:
                for block in read_blocks(cast(IO[bytes], counted), TableLimits()):
                    pieces.append(block)
                    size += len(block)
                    if size >= MAX_WHOLE_BYTES:
                        is_whole = False
                        break
            except BrokenStreamError as error:
                broken = error.reason
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"Cannot read {file.url}: {error or type(error).__name__}.") from error
    is_zstd = head == b"\x28\xb5\x2f\xfd" or head[1:] == b"\x2a\x4d\x18"
    compression = "gz" if head.startswith(b"\x1f\x8b") else "zst" if is_zstd else ""
    if head[:3] == b"BZh" or head == b"\xfd7zX" or head[:2] == b"PK":
        raise SourceError(
            f"{file.url} is compressed with another program than gzip and Zstandard. Compress it with one of these, or "
            "not at all."
        )
    if head == b"PAR1":
        raise SourceError(f"{file.url} is a parquet file. Give it a name that ends in .parquet.")
    data, stored = b"".join(pieces), counted.count
    if not is_whole:
        stored = round(stored * min(MAX_SAMPLE_BYTES / size, 1.0))
        data = data[:MAX_SAMPLE_BYTES]
    return TextSample(file, data, stored, is_whole, compression, broken)


@contextmanager
def open_file(file: Listed, policy: SourcePolicy) -> Iterator[IO[bytes]]:
    """Open a file of a source: over http by Range requests, else through fsspec. The file can be sought."""
    if is_http(file.url):
        with open_range_file(file.url, policy) as (opened, _):
            yield opened
        return
    import fsspec

    fs, path = fsspec.core.url_to_fs(file.url)
    with fs.open(path, "rb") as opened:
        yield opened


class _CountedFile:
    """A file that counts the bytes that are read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        """Read the next bytes, fewer than `size` if that is much."""
        found = self._file.read(min(size, _PIECE_BYTES) if size >= 0 else _PIECE_BYTES)
        self.count += len(found)
        return found
