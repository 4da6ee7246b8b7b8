"""Requests of a dataset's sources from a thread that may wait: a few, one after the other."""

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from laion_assets.errors import SourceError
from laion_assets.http.clock import Clock
from laion_assets.http.connecting import connect, rejection_of
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
    """Requests one after the other, over one kept connection to each origin on the way."""

    def __init__(self, policy: SourcePolicy) -> None:
        self.policy = policy
        self._guard = policy.guard()
        self._sessions = TlsSessions()
        self._kept: dict[str, HttpConnection] = {}

    def close(self) -> None:
        for connection in self._kept.values():
            connection.close()
        self._kept.clear()

    def ask(self, url: str, headers: Mapping[str, str], expected_bytes: int) -> tuple[ResponseHeaders, HttpConnection]:
        """The head after redirects, and the connection that its body comes over. Raises Rejection."""
        target = parse_target(url)
        for _ in range(MAX_REDIRECTS + 1):
            head, connection = self._exchange(target, headers, expected_bytes)
            location = head.get("location") if head.status in REDIRECTS else None
            if location is None:
                return head, connection
            connection.skip_body_at_hand(head)
            target = follow_source(target, location)
        raise Rejection(Reason.TOO_MANY_REDIRECTS, f"more than {MAX_REDIRECTS} redirects")

    def read(self, connection: HttpConnection, head: ResponseHeaders, max_bytes: int) -> bytes:
        """The body of at most `max_bytes`. Raises Rejection."""
        with _network_faults():
            return connection.read_body(head, max_bytes)

    def _exchange(
        self, target: Target, headers: Mapping[str, str], expected: int
    ) -> tuple[ResponseHeaders, HttpConnection]:
        policy = self.policy
        deadline_s = policy.timeout_s + expected / policy.min_bytes_per_s if policy.min_bytes_per_s else _LONGEST_S
        clock = Clock.start(deadline_s, policy.timeout_s)
        request = request_bytes(target, {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers})
        kept = self._kept.pop(target.origin, None)
        if kept is not None and kept.reusable:
            with contextlib.suppress(Rejection, OSError):  # closed by its server meanwhile: a new one is asked
                return self._send(kept, target, request, clock)
        if kept is not None:
            kept.close()
        with _network_faults():
            endpoints = self._guard.endpoints(target, clock.start_wait())
            connection, _ = connect(target, endpoints, clock, None, self._sessions, Hop(target.url))
            return self._send(connection, target, request, clock)

    def _send(
        self, connection: HttpConnection, target: Target, request: bytes, clock: Clock
    ) -> tuple[ResponseHeaders, HttpConnection]:
        try:
            connection.begin(clock, Rate(self.policy.min_bytes_per_s, self.policy.timeout_s))
            connection.send(request)
            head = connection.read_head()
        except BaseException:
            connection.close()
            raise
        self._kept[target.origin] = connection
        return head, connection


@contextmanager
def _network_faults() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise rejection_of(error) from error


def read_url(url: str, policy: SourcePolicy, max_bytes: int) -> bytes:
    """The whole body of a URL of the settings. Raises SourceError naming it."""
    client = SyncClient(policy)
    try:
        head, connection = client.ask(url, {}, max_bytes)
        if head.status not in (200, 203):
            raise SourceError(f"{url} answers {head.status} {head.reason[:80]}: it cannot be read.")
        return client.read(connection, head, max_bytes)
    except Rejection as rejection:
        raise SourceError(f"{url} cannot be read: {rejection}.") from rejection
    finally:
        client.close()
