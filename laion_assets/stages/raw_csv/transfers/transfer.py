"""Download one file over HTTP: conditional, resumable, with its length checked, within the disk budget."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from laion_assets.errors import LaionAssetsError, SourceError
from laion_assets.http.listings.listing import Listed
from laion_assets.http.messages.content_coding import StreamDecoder, content_coding
from laion_assets.http.messages.framing import content_range, is_whole_range
from laion_assets.http.messages.validators import is_validator, range_validator, valid_date, valid_etag
from laion_assets.http.sources.async_client import AsyncClient
from laion_assets.http.sources.async_connection import Response
from laion_assets.http.sources.retry import (
    TRANSIENT_STATUSES,
    TransientError,
    explain,
    transient_error,
    with_retries,
)
from laion_assets.http.urls.target import get_origin
from laion_assets.reasons import Reason, Rejection
from laion_assets.stages.raw_csv.transfers.disk_budget import DiskBudget
from laion_assets.stages.raw_csv.transfers.partial_files import Download, Held, Origin, Partials

_PIECE_BYTES = 1 << 18
_FREE_BYTES = 64 << 20
_MAX_RATIO = 100
"""Above 64 MiB, a body may decode to at most 100 times its size. CSVs of URLs and captions shrink about five times."""
GONE = (404, 410)
WHOLE_STATUSES = (200, 203)


@dataclass(frozen=True, slots=True)
class Fetched:
    """The result for one listed file.

    `state` is `unchanged` (the committed file is still current), `fetched` (the file is in `Partials`) or a reason.
    `size` in bytes and `sha256` are those of a fetched file. `received` bytes were downloaded in this run. `refusal`
    explains why a response was refused, empty if it was not.
    """

    state: str
    origin: Origin
    received: int = 0
    size: int = 0
    sha256: str = ""
    refusal: str = ""


class Transfer:
    """The download of one file. `received` counts its bytes over all tries."""

    def __init__(
        self,
        client: AsyncClient,
        listed: Listed,
        partials: Partials,
        committed: Origin | None,
        budget: DiskBudget,
        count: Callable[[int], None],
    ) -> None:
        self._client, self._listed, self._partials = client, listed, partials
        self._committed, self._budget, self._count = committed, budget, count
        self.received = 0

    async def run(self) -> Fetched:
        """Download the file into `partials`, unless the server confirms that it is already there or committed.

        Returns the state `deleted_404` or `deleted_410` for a file that the server no longer has, and a Reason's value
        for a response that cannot be accepted (malformed, a redirect to a private address, a body over the budget);
        its bytes are deleted. Raises SourceError naming the URL after the retries, and without retries for a permanent
        failure (401, 403, ...).
        """
        url = self._listed.url
        try:
            return await with_retries(self._try, url, self._client.policy.retries, lambda: self.received)
        except Rejection as rejection:
            self._partials.drop(self._listed.path)
            return Fetched(rejection.reason.value, Origin(url), self.received, refusal=explain(rejection))
        except (LaionAssetsError, OSError):
            raise
        except Exception as error:  # a bug of this program: report it with the URL that triggered it
            raise SourceError(f"Failed to fetch {url}: {type(error).__name__}: {error}.") from error

    async def _try(self) -> Fetched:
        url, path, partials = self._listed.url, self._listed.path, self._partials
        held = partials.held(path)
        whole = held if held is not None and held.sha256 else None
        begun = held if held is not None and not whole and held.size and is_validator(held.validator) else None
        known = whole.origin if whole else begun.origin if begun else self._committed
        conditions = known.conditions if known else {}
        if begun:
            conditions = {"Range": f"bytes={begun.size}-", "If-Range": begun.validator}
        async with self._client.get(url, conditions, known.bound_to if known else "") as response:
            status = response.status
            if status in GONE:
                return Fetched(f"deleted_{status}", Origin(url))
            if status == 304 and known is not None and not begun and response.conditional:
                return self._confirm_known(whole, known)
            if status in TRANSIENT_STATUSES:
                raise transient_error(response)
            if status == 416 and begun:
                partials.drop(path)
                raise TransientError(f"{url} has no bytes after {begun.size}, the download restarts")
            if status == 206 and begun and response.conditional:
                origin = self._version_of_rest(response, begun)
                self._budget.check_length(origin.size)
                download = await asyncio.to_thread(partials.resume, path)
            elif status in WHOLE_STATUSES or (status == 206 and is_whole_range(response.head)):
                origin = read_origin(response, url)
                if known is not None and not begun and origin.same_as(known):
                    return self._confirm_known(whole, known)
                self._budget.check_length(origin.size)
                download = partials.begin(path, origin, _resume_validator(response))
            else:
                raise SourceError(f"Failed to fetch {url}: the server answered {status} {response.head.reason[:80]}.")
            try:
                await self._write_body(response, download)
            except BaseException:
                download.close()
                raise
            if not response.complete or (status == 206 and 0 <= origin.size != download.size):
                download.close()
                if origin.size >= 0 and download.size > origin.size:
                    partials.drop(path)
                raise TransientError(f"received {download.size} of {max(origin.size, 0) or 'more'} bytes")
        done = download.finish(origin)
        return Fetched("fetched", origin, self.received, done.size, done.sha256)

    def _confirm_known(self, whole: Held | None, known: Origin) -> Fetched:
        if whole is None:
            return Fetched("unchanged", known)
        return Fetched("fetched", known, self.received, whole.size, whole.sha256)

    def _version_of_rest(self, response: Response, begun: Held) -> Origin:
        """Return the version of a file whose remaining bytes follow. Raises TransientError if they do not fit."""
        span = content_range(response.head)
        if span is None or span[0] != begun.size:
            self._partials.drop(self._listed.path)
            raise TransientError(f"{self._listed.url} did not send the bytes from {begun.size}, the download restarts")
        return replace(begun.origin, url=self._listed.url, size=span[2])

    async def _write_body(self, response: Response, download: Download) -> None:
        """Decode and write the body. Raises like `Response.read`, `StreamDecoder.feed` and `DiskBudget.take`."""
        coding = _content_coding(response, self._listed.path)
        decoder = StreamDecoder(coding) if coding else None
        received = 0

        def write(plain: bytes) -> None:
            self._budget.take(download.size, len(plain))
            if decoder is not None and download.size > max(_FREE_BYTES, _MAX_RATIO * received):
                raise Rejection(Reason.TOO_LARGE, f"the body decodes to more than {_MAX_RATIO} times its size")
            download.write(plain)

        while piece := await response.read(_PIECE_BYTES):
            received += len(piece)
            self.received += len(piece)
            self._count(len(piece))
            for plain in decoder.feed(piece) if decoder is not None else (piece,):
                write(plain)
        if decoder is not None and response.complete:
            for plain in decoder.end():
                write(plain)


def _content_coding(response: Response, path: str) -> str:
    """Return the Content-Encoding that must be decoded, empty if none.

    A `.gz` file with `Content-Encoding: gzip` is not decoded: Apache's `AddEncoding x-gzip .gz` labels gzip files so.
    """
    coding = content_coding(response.head)
    return "" if coding == "gzip" and path.lower().endswith((".gz", ".tgz")) else coding


def read_origin(response: Response, url: str) -> Origin:
    """Return the version of a file that a response describes."""
    head = response.head
    answered_by = "" if response.origin == get_origin(url) else response.origin
    return Origin(
        url, valid_etag(head.get("etag")), valid_date(head.get("last-modified")), response.length, answered_by
    )


def _resume_validator(response: Response) -> str:
    """Return the value of If-Range for a resumption, empty if the body is decoded: ranges count encoded bytes."""
    return "" if content_coding(response.head) else range_validator(response.head)
