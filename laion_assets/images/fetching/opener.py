"""The guarded fetch in the place where img2dataset calls `urllib.request.urlopen`.

`urllib.request.install_opener` is process-wide, so `installed()` belongs in worker processes only. The exception of a
refused URL reaches img2dataset's parquet as its text, which starts with the reason.
"""

import contextlib
import io
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from laion_assets.images.fetching.body_budget import charge
from laion_assets.images.fetching.fetch import Fetcher
from laion_assets.images.reasons import Reason, Rejection


@dataclass
class Tally:
    """What an opener has fetched so far; the run's own figures, never the counts that a manifest states."""

    requests: int = 0
    attempts: int = 0
    wire_bytes: int = 0
    body_bytes: int = 0
    seconds: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, attempts: int, wire_bytes: int, body_bytes: int, seconds: float) -> None:
        """Count one URL."""
        with self._lock:
            self.requests += 1
            self.attempts += attempts
            self.wire_bytes += wire_bytes
            self.body_bytes += body_bytes
            self.seconds += seconds

    def as_dict(self) -> dict[str, float]:
        """The figures by name."""
        return {
            "requests": self.requests,
            "attempts": self.attempts,
            "wire_bytes": self.wire_bytes,
            "body_bytes": self.body_bytes,
            "fetch_seconds": round(self.seconds, 3),
        }


class GuardedOpener:
    """An opener as `urllib.request.install_opener` wants it; `tally` counts what it did.

    A large body keeps its bytes of the fetcher's budget while it waits in img2dataset's queue: until the resizer made
    by `consuming` is done with it, or `release_all`.
    """

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._held = 0
        self._lock = threading.Lock()
        self.tally = Tally()

    def consuming(self, resizer: Callable[..., Any]) -> Callable[..., Any]:
        """The resizer, which then gives each body's bytes back to the budget when it is done with the body."""

        def resize(img_stream: io.BytesIO, *arguments: Any) -> Any:
            size = img_stream.getbuffer().nbytes
            try:
                return resizer(img_stream, *arguments)
            finally:
                self._release(charge(size))

        return resize

    def release_all(self) -> None:
        """Give back what is still taken for bodies that nobody consumed."""
        self._release(self._held)

    def _release(self, size: int) -> None:
        with self._lock:
            size = min(size, self._held)
            self._held -= size
        self._fetcher.budget.give(size)

    def open(self, fullurl: "urllib.request.Request | str", data: Any = None, timeout: Any = None) -> "GuardedResponse":
        """Fetch the request's URL under the guard; `data` and `timeout` are ignored. Raises Rejection."""
        url = fullurl if isinstance(fullurl, str) else fullurl.full_url
        fetched = self._fetcher.fetch(url, hold=True)
        with self._lock:
            self._held += fetched.held
        self.tally.add(fetched.attempts, fetched.wire_bytes, len(fetched.body), fetched.seconds)
        if fetched.reason is not Reason.SUCCESS:
            raise Rejection(fetched.reason, fetched.detail)
        return GuardedResponse(fetched.body, fetched.headers)


class GuardedHeaders:
    """The answer's headers as far as img2dataset asks for them."""

    def __init__(self, headers: tuple[tuple[str, str], ...]) -> None:
        self._headers = headers

    def get_all(self, name: str, default: Any = None) -> Any:
        """The values of every header of this name, `default` where there is none."""
        return [value for key, value in self._headers if key == name.lower()] or default


class GuardedResponse:
    """A body that is all there, with its headers."""

    def __init__(self, body: bytes, headers: tuple[tuple[str, str], ...]) -> None:
        self.headers = GuardedHeaders(headers)
        self._body = body

    def read(self) -> bytes:
        """The body."""
        return self._body

    def __enter__(self) -> "GuardedResponse":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._body = b""


@contextlib.contextmanager
def installed(opener: GuardedOpener) -> Iterator[GuardedOpener]:
    """Make `urllib.request.urlopen` of this process go through the guard while the body runs."""
    before = urllib.request._opener  # type: ignore[attr-defined]
    urllib.request.install_opener(opener)  # type: ignore[arg-type]
    try:
        yield opener
    finally:
        urllib.request.install_opener(before)
        opener.release_all()
