"""One file over HTTP: only if it changed, resumed by range, checked for its length, never slower than a floor."""

import http.client
import os
import re
import time
from dataclasses import dataclass

from laion_assets.errors import SourceError
from laion_assets.metadata.http_source import HttpSource
from laion_assets.metadata.listing import Listed
from laion_assets.metadata.partial import Origin, Partials
from laion_assets.metadata.retry import TRANSIENT_STATUSES, TransientError, retry_after_s, with_retries
from laion_assets.metadata.settings import MetadataSettings

_CHUNK_BYTES = 1 << 18
_GONE = (404, 410)


@dataclass(frozen=True)
class Fetched:
    """What became of a listed file: `unchanged` (what is published is right), `fetched` (in partials) or a reason."""

    state: str
    origin: Origin
    received: int = 0


def transfer(
    source: HttpSource, listed: Listed, partials: Partials, published: Origin | None, settings: MetadataSettings
) -> Fetched:
    """Get one file into `partials`, unless it is there or published already and the server says so.

    A file that is gone gives the state `vanished_404` or `vanished_410`. Raises SourceError naming the URL after the
    retries, or at once for an answer that will not pass (401, 403, ...).
    """
    received = [0]

    def attempt() -> Fetched:
        return _attempt(source, listed, partials, published, settings, received)

    return with_retries(attempt, listed.url, settings.retries)


def _attempt(
    source: HttpSource,
    listed: Listed,
    partials: Partials,
    published: Origin | None,
    settings: MetadataSettings,
    received: list[int],
) -> Fetched:
    path, part = listed.path, partials.part(listed.path)
    earlier = partials.origin(path)
    finished = earlier if earlier is not None and partials.done(path).exists() else None
    held = part.stat().st_size if earlier is not None and part.exists() and finished is None else 0
    resumable = earlier if held and earlier is not None and earlier.validator else None
    headers: dict[str, str] = {}
    if finished or (published and not resumable):
        headers = (finished or published or Origin("")).conditions
    elif resumable:
        headers = {"Range": f"bytes={held}-", "If-Range": resumable.validator}
    with source.get(listed.url, headers) as (response, _):
        if response.status in _GONE:
            return Fetched(f"vanished_{response.status}", Origin(listed.url))
        if response.status == 304 and headers and not resumable:
            response.read()
            return Fetched("fetched" if finished else "unchanged", finished or published or Origin(listed.url))
        if response.status == 416 and resumable:
            partials.drop(path)
            raise TransientError(f"{listed.url} has no bytes after {held}: it starts again")
        if response.status in TRANSIENT_STATUSES:
            raise TransientError(f"{response.status} {response.reason}", retry_after_s(response))
        if response.status == 206 and resumable:
            start, size = _content_range(response, listed.url)
            if start != held:
                partials.drop(path)
                raise TransientError(f"{listed.url} sent bytes from {start}, not from {held}: it starts again")
            origin = Origin(listed.url, resumable.etag, resumable.last_modified, size)
        elif response.status == 200:
            held, origin = 0, _origin(response, listed.url)
            if finished and origin.same_as(finished):
                return Fetched("fetched", finished)
            if published and origin.same_as(published):
                return Fetched("unchanged", published)
            partials.begin(path, origin)
        else:
            raise SourceError(f"{listed.url} answers {response.status} {response.reason}: it cannot be fetched.")
        size = _body(response, partials, path, held, settings, received)
        if origin.size >= 0 and size != origin.size:
            if size > origin.size:
                partials.drop(path)
            raise TransientError(f"{size} of {origin.size} bytes came")
    partials.finish(path, Origin(origin.url, origin.etag, origin.last_modified, size))
    return Fetched("fetched", Origin(origin.url, origin.etag, origin.last_modified, size), received[0])


def _body(
    response: http.client.HTTPResponse,
    partials: Partials,
    path: str,
    held: int,
    settings: MetadataSettings,
    received: list[int],
) -> int:
    """Write the body after the `held` bytes; returns the size of the whole. Slow bodies raise TransientError."""
    window_start, window_bytes = time.monotonic(), 0
    with partials.part(path).open("ab") as file:
        file.truncate(held)
        file.seek(0, os.SEEK_END)
        # CPython's HTTPResponse.read1 does not count the length down before 3.11.8 (gh-113199): it is counted here.
        left = response.length
        while left != 0 and (chunk := response.read1(_CHUNK_BYTES if left is None else min(left, _CHUNK_BYTES))):
            left = None if left is None else left - len(chunk)
            file.write(chunk)
            received[0] += len(chunk)
            window_bytes += len(chunk)
            elapsed = time.monotonic() - window_start
            if elapsed >= settings.stall_timeout_s:
                if window_bytes < settings.min_bytes_per_s * elapsed:
                    raise TransientError(f"only {window_bytes} bytes came in {elapsed:.0f} s")
                window_start, window_bytes = time.monotonic(), 0
        if left == 0:
            response.close()
        return file.tell()


def _origin(response: http.client.HTTPResponse, url: str) -> Origin:
    length = response.headers.get("Content-Length", "")
    size = int(length) if length.isdigit() else -1
    return Origin(url, response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""), size)


def _content_range(response: http.client.HTTPResponse, url: str) -> tuple[int, int]:
    """Start and whole size of a 206 answer, size -1 if unknown (RFC 9110, 14.4)."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    if not found:
        raise TransientError(f"{url} answers 206 without a range")
    return int(found.group(1)), -1 if found.group(2) == "*" else int(found.group(2))
