"""A blocking HTTP client for a dataset's sources: few requests, one at a time."""

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from laion_assets.errors import SourceError
from laion_assets.http.clock import Clock
from laion_assets.http.connecting import connect, socket_rejection
from laion_assets.http.hop import Hop
from laion_assets.http.http_connection import HttpConnection, Rate
from laion_assets.http.messages.request import request_bytes
from laion_assets.http.messages.response_headers import ResponseHeaders
from laion_assets.http.response_policy import REDIRECTS
from laion_assets.http.sources.source_policy import MAX_REDIRECTS, USER_AGENT, SourcePolicy
from laion_assets.http.tls import TlsSessions
from laion_assets.http.urls.target import Target, follow_source, parse_target
from laion_assets.reasons import Reason, Rejection

_LONGEST_S = 24 * 3600.0


class SyncClient:
    """Sends requests one at a time, and keeps one connection per origin."""

    def __init__(self, policy: SourcePolicy) -> None:
        self.policy = policy
        self._guard = policy.guard()
        self._sessions = TlsSessions()
        self._idle: dict[str, HttpConnection] = {}

    def close(self) -> None:
        for connection in self._idle.values():
            connection.close()
        self._idle.clear()

    def get(self, url: str, headers: Mapping[str, str], expected_bytes: int) -> tuple[ResponseHeaders, HttpConnection]:
        """Send a GET request and follow redirects. Returns the response headers and the connection for the body.

        Raises Rejection.
        """
        target = parse_target(url)
        for _ in range(MAX_REDIRECTS + 1):
            head, connection = self._exchange(target, headers, expected_bytes)
            location = head.get("location") if head.status in REDIRECTS else None
            if location is None:
                return head, connection
            connection.skip_buffered_body(head)
            target = follow_source(target, location)
        raise Rejection(Reason.TOO_MANY_REDIRECTS, f"more than {MAX_REDIRECTS} redirects")

    def read(self, connection: HttpConnection, head: ResponseHeaders, max_bytes: int) -> bytes:
        """Read the body, at most `max_bytes`. Raises Rejection."""
        with _rejecting_socket_errors():
            return connection.read_body(head, max_bytes)

    def _exchange(
        self, target: Target, headers: Mapping[str, str], expected: int
    ) -> tuple[ResponseHeaders, HttpConnection]:
        policy = self.policy
        deadline_s = policy.timeout_s + expected / policy.min_bytes_per_s if policy.min_bytes_per_s else _LONGEST_S
        clock = Clock.start(deadline_s, policy.timeout_s)
        request = request_bytes(target, {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers})
        idle = self._idle.pop(target.origin, None)
        if idle is not None and idle.reusable:
            with contextlib.suppress(Rejection, OSError):  # closed by its server meanwhile: open a new one
                return self._send(idle, target, request, clock)
        if idle is not None:
            idle.close()
        with _rejecting_socket_errors():
            endpoints = self._guard.endpoints(target, clock.start_wait())
            connection, _ = connect(target, endpoints, clock, None, self._sessions, Hop(target.url))
            return self._send(connection, target, request, clock)

    def _send(
        self, connection: HttpConnection, target: Target, request: bytes, clock: Clock
    ) -> tuple[ResponseHeaders, HttpConnection]:
        try:
            connection.start_request(clock, Rate(self.policy.min_bytes_per_s, self.policy.timeout_s))
            connection.send(request)
            head = connection.read_head()
        except BaseException:
            connection.close()
            raise
        self._idle[target.origin] = connection
        return head, connection


@contextmanager
def _rejecting_socket_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise socket_rejection(error) from error


def read_url(url: str, policy: SourcePolicy, max_bytes: int) -> bytes:
    """Return the whole body of a URL of the settings. Raises SourceError naming the URL."""
    client = SyncClient(policy)
    try:
        head, connection = client.get(url, {}, max_bytes)
        if head.status not in (200, 203):
            raise SourceError(f"{url} cannot be read: HTTP {head.status} {head.reason[:80]}.")
        return client.read(connection, head, max_bytes)
    except Rejection as rejection:
        raise SourceError(f"{url} cannot be read: {rejection}.") from rejection
    finally:
        client.close()
