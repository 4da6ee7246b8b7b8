"""A file over http(s) that is read by Range requests, for readers that need only parts of it (parquet)."""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TypeVar, cast

from laion_assets.errors import SourceError
from laion_assets.http.messages.content_coding import content_coding
from laion_assets.http.messages.framing import Framing, content_range, determine_framing
from laion_assets.http.messages.response_headers import ResponseHeaders
from laion_assets.http.messages.validators import valid_date, valid_etag
from laion_assets.http.sources.source_policy import SourcePolicy
from laion_assets.http.sources.sync_client import SyncClient
from laion_assets.reasons import Reason, Rejection

MAX_IN_MEMORY_BYTES = 64 << 20
"""Maximum size of a file that is read into memory because its server ignores Range."""
_READ_AHEAD_BYTES = 1 << 20
_PAUSE_S = 0.5

T = TypeVar("T")


class RangeFile(io.RawIOBase):
    """A file read by Range requests. `size` in bytes; `version` is its entity tag, else its date, empty without one.

    Raises SourceError naming the URL if the file cannot be read, OSError if it changed in between.
    """

    def __init__(self, url: str, policy: SourcePolicy) -> None:
        super().__init__()
        self._client = SyncClient(policy)
        self._url = url
        self._position = 0
        self._whole: bytes | None = None
        self.size = -1
        self.version = ""
        self._retry(self._read_size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(start + offset, 0)
        return self._position

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        size = min(len(buffer), max(self.size - self._position, 0))
        if size:
            buffer[:size] = self._read(self._position, size)
            self._position += size
        return size

    def close(self) -> None:
        if not self.closed:
            self._client.close()
        super().close()

    def _read(self, start: int, size: int) -> bytes:
        if self._whole is not None:
            return self._whole[start : start + size]
        return self._retry(lambda: self._read_range(start, size))

    def _read_size(self) -> None:
        head, connection = self._client.get(self._url, {"Range": "bytes=0-0"}, 1)
        span = content_range(head) if head.status == 206 else None
        coded = bool(content_coding(head))
        if span is not None and span[2] >= 0 and not coded:
            self._client.read(connection, head, 1)
            self.size = span[2]
        elif head.status in (200, 203):
            framing, length = determine_framing(head)
            if framing is not Framing.LENGTH or coded:
                raise SourceError(
                    f"{self._url} is served without Content-Length, so its footer cannot be found. Copy it to a folder."
                )
            if length > MAX_IN_MEMORY_BYTES:
                raise SourceError(
                    f"{self._url} has {length:,} bytes and its server does not support Range. Copy it to a folder."
                )
            self._whole = self._client.read(connection, head, length)
            self.size = length
        else:
            raise SourceError(f"{self._url} cannot be read: HTTP {head.status} {head.reason[:80]}.")
        self.version = _get_version(head)

    def _read_range(self, start: int, size: int) -> bytes:
        head, connection = self._client.get(self._url, {"Range": f"bytes={start}-{start + size - 1}"}, size)
        span = content_range(head)
        if head.status != 206 or span is None or span[:2] != (start, start + size - 1) or content_coding(head):
            raise Rejection(Reason.BAD_RESPONSE, f"HTTP {head.status} is not the requested range of bytes")
        if (span[2] >= 0 and span[2] != self.size) or _get_version(head) != self.version:
            raise OSError(f"{self._url} changed while it was read")
        return self._client.read(connection, head, size)

    def _retry(self, act: Callable[[], T]) -> T:
        for attempt in range(self._client.policy.retries + 1):
            if attempt:
                time.sleep(min(_PAUSE_S * 2 ** (attempt - 1), 10.0))
            try:
                return act()
            except Rejection as rejection:
                failure = rejection
                if not rejection.reason.is_retryable and rejection.reason is not Reason.BAD_RESPONSE:
                    break
        raise SourceError(f"{self._url} cannot be read: {failure}.") from failure


@contextmanager
def open_range_file(url: str, policy: SourcePolicy) -> Iterator[tuple[IO[bytes], RangeFile]]:
    """Open the file with buffering, and yield it with its RangeFile. Raises SourceError naming the URL."""
    with RangeFile(url, policy) as raw, io.BufferedReader(raw, _READ_AHEAD_BYTES) as file:
        yield cast(IO[bytes], file), raw


def _get_version(head: ResponseHeaders) -> str:
    return valid_etag(head.get("etag")) or valid_date(head.get("last-modified"))
