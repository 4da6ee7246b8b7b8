"""One file over HTTP: only if it changed, resumed by range, checked for its length, never slower than a floor."""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from laion_assets.errors import SourceError
from laion_assets.metadata.content_encoding import Decoder, foreign_encoding
from laion_assets.metadata.http_answer import Answer
from laion_assets.metadata.http_source import HttpSource
from laion_assets.metadata.listing import Listed
from laion_assets.metadata.partial import Download, Held, Origin, Partials
from laion_assets.metadata.retry import TRANSIENT_STATUSES, TransientError, retry_after_s, with_retries
from laion_assets.metadata.settings import MetadataSettings

_PIECE_BYTES = 1 << 18
_GONE = (404, 410)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of a listed file: `unchanged` (what is published is right), `fetched` (in partials) or a reason.

    `size` in bytes and `sha256` of a fetched one; `received` bytes came over the network in this run.
    """

    state: str
    origin: Origin
    received: int = 0
    size: int = 0
    sha256: str = ""


class Transfer:
    """A file on its way: `received` counts what came, over all tries."""

    def __init__(
        self,
        source: HttpSource,
        listed: Listed,
        partials: Partials,
        published: Origin | None,
        settings: MetadataSettings,
        count: Callable[[int], None],
    ) -> None:
        self._source, self._listed, self._partials = source, listed, partials
        self._published, self._settings, self._count = published, settings, count
        self.received = 0

    async def run(self) -> Fetched:
        """Get the file into `partials`, unless it is there or published already and the server says so.

        A file that is gone gives the state `vanished_404` or `vanished_410`. Raises SourceError naming the URL after
        the retries, or at once for an answer that will not pass (401, 403, ...).
        """
        return await with_retries(self._try, self._listed.url, self._settings.retries, lambda: self.received)

    async def _try(self) -> Fetched:
        url, path, partials = self._listed.url, self._listed.path, self._partials
        held = partials.held(path)
        whole = held if held is not None and held.sha256 else None
        begun = held if held is not None and not whole and held.size and held.validator else None
        known = whole.origin if whole else None if begun else self._published
        headers = known.conditions if known else {}
        if begun:
            headers = {"Range": f"bytes={begun.size}-", "If-Range": begun.validator}
        async with self._source.get(url, headers) as answer:
            status = answer.status
            if status in _GONE:
                return Fetched(f"vanished_{status}", Origin(url))
            if status == 304 and known is not None:
                return self._as_known(whole, known)
            if status in TRANSIENT_STATUSES:
                raise TransientError(f"{status} {answer.reason}", retry_after_s(answer.headers))
            if status == 416 and begun:
                partials.drop(path)
                raise TransientError(f"{url} has no bytes after {begun.size}: it starts again")
            if status == 206 and begun:
                origin = self._rest(answer, begun)
                download = await asyncio.to_thread(partials.resume, path)
            elif status == 200:
                origin = _origin(answer, url)
                if known is not None and origin.same_as(known):
                    return self._as_known(whole, known)
                download = partials.begin(path, origin, _validator(answer, path))
            else:
                raise SourceError(f"{url} answers {status} {answer.reason}: it cannot be fetched.")
            try:
                await self._body(answer, download)
            except BaseException:
                download.close()
                raise
            if not answer.complete or (status == 206 and 0 <= origin.size != download.size):
                download.close()
                if origin.size >= 0 and download.size > origin.size:
                    partials.drop(path)
                raise TransientError(f"{download.size} of {max(origin.size, 0) or 'more'} bytes came")
        done = download.finish(origin)
        return Fetched("fetched", origin, self.received, done.size, done.sha256)

    def _as_known(self, whole: Held | None, known: Origin) -> Fetched:
        if whole is None:
            return Fetched("unchanged", known)
        return Fetched("fetched", known, self.received, whole.size, whole.sha256)

    def _rest(self, answer: Answer, begun: Held) -> Origin:
        """The origin of a file whose rest is coming. Raises TransientError if it is not the rest of what is held."""
        start, size = _content_range(answer, self._listed.url)
        if start != begun.size:
            self._partials.drop(self._listed.path)
            raise TransientError(f"{self._listed.url} sent bytes from {start}, not from {begun.size}: it starts again")
        return Origin(self._listed.url, begun.origin.etag, begun.origin.last_modified, size)

    async def _body(self, answer: Answer, download: Download) -> None:
        """Write the body. Raises TransientError for one that comes too slowly, SourceError for a foreign encoding."""
        encoding = foreign_encoding(answer.headers, self._listed.path)
        decoder = Decoder(encoding, self._listed.url) if encoding else None
        window_start, window_bytes = time.monotonic(), 0
        while piece := await answer.read(_PIECE_BYTES):
            self.received += len(piece)
            self._count(len(piece))
            if decoder is None:
                download.write(piece)
            else:
                for decoded in decoder.feed(piece):
                    download.write(decoded)
            window_bytes += len(piece)
            elapsed = time.monotonic() - window_start
            if elapsed >= self._settings.stall_timeout_s:
                if window_bytes < self._settings.min_bytes_per_s * elapsed:
                    raise TransientError(f"only {window_bytes} bytes came in {elapsed:.0f} s")
                window_start, window_bytes = time.monotonic(), 0
        if decoder is not None and answer.complete:
            download.write(decoder.end())


def _origin(answer: Answer, url: str) -> Origin:
    size = -1 if answer.length is None else answer.length
    return Origin(url, answer.headers.get("etag", ""), answer.headers.get("last-modified", ""), size)


def _validator(answer: Answer, path: str) -> str:
    """What If-Range takes (RFC 9110, 13.1.5): a strong entity tag, else a date that is strong; empty if there is none.

    A date is strong if the answer was made at least a second after it (8.8.2.2): two versions of one second have the
    same date. A decoded body cannot be resumed, its bytes are not those of the range.
    """
    if foreign_encoding(answer.headers, path):
        return ""
    etag, modified = answer.headers.get("etag", ""), answer.headers.get("last-modified", "")
    if etag and not etag.startswith("W/"):
        return etag
    try:
        age = parsedate_to_datetime(answer.headers["date"]) - parsedate_to_datetime(modified)
    except (KeyError, TypeError, ValueError):
        return ""
    return modified if age.total_seconds() >= 1 else ""


def _content_range(answer: Answer, url: str) -> tuple[int, int]:
    """Start and whole size of a 206 answer, size -1 if unknown (RFC 9110, 14.4)."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("content-range", "").strip())
    if not found:
        raise TransientError(f"{url} answers 206 without a range")
    return int(found.group(1)), -1 if found.group(2) == "*" else int(found.group(2))
