"""Fetch one URL through the address guard, with redirects, retries and consent checks, within one deadline."""

import atexit
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from laion_assets.dataset.fetch_policy import MIN_RATE_GRACE_S, FetchPolicy
from laion_assets.http.clock import Clock
from laion_assets.http.connecting import connect, socket_rejection
from laion_assets.http.connection_pool import ConnectionPool
from laion_assets.http.consent.robots_cache import RobotsCache
from laion_assets.http.consent.robots_txt import ALLOW_ALL, MAX_BYTES, Rules, parse_robots_txt
from laion_assets.http.hop import Hop
from laion_assets.http.host_limiter import HostLimiter
from laion_assets.http.http_connection import HttpConnection, Rate
from laion_assets.http.memory_budget import MemoryBudget, Reservation, return_large_blocks
from laion_assets.http.messages.request import request_bytes
from laion_assets.http.messages.response_headers import ResponseHeaders
from laion_assets.http.response_policy import check_response, check_robots_response
from laion_assets.http.tls import TlsSessions
from laion_assets.http.urls.guard import Guard
from laion_assets.http.urls.host_overrides import Endpoint
from laion_assets.http.urls.target import Target, follow, parse_target
from laion_assets.reasons import Reason, Rejection

RETRY_PAUSE_S = 0.3
_MAX_SHARED = 4


@dataclass(frozen=True)
class Fetched:
    """The result of fetching a URL: its body where `reason` is `success`, else the reason of the failure.

    `wire_bytes` is the number of bytes received. `reserved_bytes` of the fetcher's memory budget are still reserved for
    the body: 0 unless the caller asked for it. `started` is a time of the monotonic clock.
    """

    url: str
    reason: Reason
    detail: str
    hops: tuple[Hop, ...]
    headers: tuple[tuple[str, str], ...]
    body: bytes
    wire_bytes: int
    attempts: int
    seconds: float
    reserved_bytes: int = 0
    started: float = 0.0

    @property
    def status(self) -> int | None:
        """The HTTP status of the last response, None if there was none."""
        return self.hops[-1].status if self.hops else None

    @property
    def final_url(self) -> str:
        """The URL of the last request, after redirects."""
        return self.hops[-1].url if self.hops else self.url


def fetch(url: str, policy: FetchPolicy | None = None) -> Fetched:
    """Fetch one URL under the policy, by default the strict one. Never raises for an error of the URL or its server."""
    fetcher = Fetcher(policy or FetchPolicy())
    try:
        return fetcher.fetch(url)
    finally:
        fetcher.close()


class Fetcher:
    """Fetches URLs under one policy. All threads share its connections, host limits, memory budget and DNS cache."""

    def __init__(self, policy: FetchPolicy, guard: Guard | None = None) -> None:
        self.policy = policy
        self.guard = guard or Guard(policy.resolve, policy.allowed_ports, blocked_networks=policy.blocked_networks)
        self.pool = ConnectionPool(policy.idle_connections)
        self.limiter = HostLimiter(policy.requests_per_host, policy.requests_per_address, policy.max_retry_after_s)
        self.budget = MemoryBudget(policy.max_bytes_in_flight)
        self.sessions = TlsSessions()
        self.robots = RobotsCache(self._robots_txt)

    def close(self) -> None:
        """Close the idle connections. The fetcher still works, but no longer keeps connections."""
        self.pool.close()

    def wait_s(self, url: str) -> float:
        """Return for how many seconds to defer the URL, because its host backs off or has no free slot."""
        if not self.limiter.has_waits:
            return 0.0
        try:
            return self.limiter.wait_s(parse_target(url).host)
        except Rejection:
            return 0.0

    def fetch(self, url: str, keep_reservation: bool = False) -> Fetched:
        """Fetch one URL. Retries a retryable failure while tries and time are left.

        With `keep_reservation` a successful result keeps its `reserved_bytes`. The caller returns them to the budget
        (`budget.release`) when it no longer needs the body.
        """
        policy = self.policy
        clock = Clock.start(policy.deadline_s, policy.connect_timeout_s, policy.host_wait_s)
        started = time.monotonic()
        attempts = wire_bytes = 0
        while True:
            attempts += 1
            reservation = Reservation(self.budget, clock)
            attempt = _Attempt(self, clock, reservation)
            body, retry_after_s = b"", None
            try:
                body = attempt.run(url)
                reason, detail = Reason.SUCCESS, ""
            except Rejection as rejection:
                reason, detail, retry_after_s = rejection.reason, rejection.detail, rejection.retry_after_s
            except Exception as error:  # a defect costs one row, never the worker
                reason, detail = Reason.INTERNAL, type(error).__name__
            reservation.shrink(len(body) if keep_reservation else 0)
            wire_bytes += attempt.wire_bytes
            if not reason.is_retryable or reason is Reason.HOST_BUSY or attempts > policy.retries:
                break
            if retry_after_s is not None:  # the host backs off; the next attempt waits for it
                if retry_after_s > min(policy.max_retry_after_s, clock.queue_timeout_s):
                    break
            elif clock.ends_at - time.monotonic() <= RETRY_PAUSE_S:
                break
            else:
                time.sleep(RETRY_PAUSE_S)
        return Fetched(
            url=url,
            reason=reason,
            detail=detail,
            hops=tuple(attempt.hops),
            headers=attempt.head.headers if attempt.head else (),
            body=body,
            wire_bytes=wire_bytes,
            attempts=attempts,
            seconds=round(time.monotonic() - started, 3),
            reserved_bytes=reservation.reserved_bytes,
            started=started,
        )

    def _robots_txt(self, target: Target) -> Rules:
        """Fetch the robots.txt of the target's site. Raises Rejection if the site cannot be reached."""
        clock = Clock.start(self.policy.deadline_s, self.policy.connect_timeout_s, self.policy.host_wait_s)
        attempt = _RobotsAttempt(self, clock, Reservation(self.budget, clock))
        try:
            content = attempt.run(f"{target.scheme}://{target.host_header}/robots.txt")
        except Rejection as rejection:
            if rejection.reason in _NO_ROBOTS:
                return ALLOW_ALL
            raise Rejection(rejection.reason, f"robots.txt: {rejection.detail}") from rejection
        is_missing = attempt.head is not None and not 200 <= attempt.head.status < 300
        return ALLOW_ALL if is_missing else parse_robots_txt(content, self.policy.opt_out_tokens)


_NO_ROBOTS = {Reason.TOO_MANY_REDIRECTS, Reason.REDIRECT_LOOP, Reason.BAD_REDIRECT, Reason.UNSUPPORTED_SCHEME}
"""With these reasons a robots.txt is unavailable, so everything is allowed (RFC 9309, 2.3.1.2 and 2.3.1.3)."""
_shared: OrderedDict[tuple[object, ...], Fetcher] = OrderedDict()
_shared_lock = threading.Lock()


def shared_fetcher(policy: FetchPolicy) -> Fetcher:
    """Return this process's fetcher for the policy. Its connections and caches serve all shards."""
    with _shared_lock:
        fetcher = _shared.get(policy.key)
        if fetcher is None:
            return_large_blocks()
            fetcher = _shared[policy.key] = Fetcher(policy)
        _shared.move_to_end(policy.key)
        while len(_shared) > _MAX_SHARED:
            _shared.popitem(last=False)[1].close()
        return fetcher


@atexit.register
def _close_shared() -> None:
    for fetcher in _shared.values():
        fetcher.close()


class _Attempt:
    """One attempt to fetch a URL, including redirects."""

    def __init__(self, fetcher: Fetcher, clock: Clock, reservation: Reservation) -> None:
        self.fetcher = fetcher
        self.policy = fetcher.policy
        self.clock = clock
        self.reservation = reservation
        self.hops: list[Hop] = []
        self.head: ResponseHeaders | None = None
        self.wire_bytes = 0

    def run(self, url: str) -> bytes:
        """Return the body of the URL. Raises Rejection."""
        self.hops.append(Hop(url))
        target = parse_target(url)
        seen = {_identity(target)}
        while True:
            body, location = self._request(target)
            if location is None:
                return body
            target = follow(target, location)
            if _identity(target) in seen:
                raise Rejection(Reason.REDIRECT_LOOP, "a redirect to a URL that was already requested")
            if len(seen) > self.policy.max_redirects:
                raise Rejection(Reason.TOO_MANY_REDIRECTS, f"more than {self.policy.max_redirects} redirects")
            seen.add(_identity(target))
            self.hops.append(Hop(target.url))

    def _request(self, target: Target) -> tuple[bytes, str | None]:
        """Return (body, None) for a final response, (b"", location) for a redirect."""
        fetcher, hop, clock = self.fetcher, self.hops[-1], self.clock
        hop.url = target.url
        self._check_robots(target)
        started = time.monotonic()
        endpoints = fetcher.guard.endpoints(target, clock.start_wait())
        checked = time.monotonic()
        hop.dns_s = checked - started
        address = None if endpoints[0].own else endpoints[0].address
        fetcher.limiter.acquire(target.host, address, clock)
        hop.waited_s = time.monotonic() - checked
        try:
            return self._exchange(target, endpoints)
        except OSError as error:
            raise socket_rejection(error) from error
        except Rejection as rejection:
            if rejection.retry_after_s is not None:
                fetcher.limiter.back_off(target.host, rejection.retry_after_s)
            raise
        finally:
            fetcher.limiter.release(target.host, address)

    def _exchange(self, target: Target, endpoints: Sequence[Endpoint]) -> tuple[bytes, str | None]:
        """Send the request over an idle connection to a checked endpoint if there is one, else over a new connection.

        If nothing is received over an idle connection, its server has most likely closed it, which is not a failure of
        the URL. The request is then sent again over a new connection, within the same attempt.
        """
        for endpoint in endpoints:
            idle = self.fetcher.pool.take((target.scheme, target.host, endpoint))
            if idle is None:
                continue
            self.hops[-1].reused = True
            try:
                return self._send(idle, target, endpoint)
            except (OSError, Rejection):
                if idle.received or self.head is not None:
                    raise
            self.hops[-1].reused = False
            break
        connection, endpoint = connect(
            target, endpoints, self.clock, self.policy.ca_file, self.fetcher.sessions, self.hops[-1]
        )
        return self._send(connection, target, endpoint)

    def _send(self, connection: HttpConnection, target: Target, endpoint: Endpoint) -> tuple[bytes, str | None]:
        policy, hop = self.policy, self.hops[-1]
        hop.address = str(endpoint)
        self.head = None
        keep = False
        connection.start_request(self.clock, Rate(policy.min_bytes_per_s, MIN_RATE_GRACE_S))
        try:
            keep = self.fetcher.pool.expects(target.scheme, target.host)
            connection.send(self._request_bytes(target, keep))
            sent = time.monotonic()
            head = self.head = connection.read_head()
            hop.status = head.status
            head_received = time.monotonic()
            hop.first_byte_s = (connection.first_byte_at or head_received) - sent
            try:
                location = self._check(head)
            except Rejection as rejection:
                if rejection.reason is not Reason.OPTED_OUT:
                    connection.skip_buffered_body(head)
                raise
            if location is not None:
                connection.skip_buffered_body(head)
                return b"", location
            body = self._body(connection, head)
            hop.body_s = time.monotonic() - head_received
            return body, None
        finally:
            self.wire_bytes += connection.received
            if connection.reusable and keep:
                self.fetcher.pool.put((target.scheme, target.host, endpoint), connection)
            else:
                connection.close()

    def _check_robots(self, target: Target) -> None:
        """Raise Rejection if the site's robots.txt disallows the target, or cannot be fetched."""
        if self.policy.robots_txt:
            rules = self.fetcher.robots.rules(target, self.clock)
            refused = rules.refusal(target.path, self.policy.opt_out_usages)
            if refused is not None:
                raise Rejection(Reason.OPTED_OUT, refused)

    def _check(self, head: ResponseHeaders) -> str | None:
        return check_response(head, self.policy)

    def _body(self, connection: HttpConnection, head: ResponseHeaders) -> bytes:
        body = connection.read_body(head, self.policy.max_body_bytes, self.reservation)
        if not body:
            raise Rejection(Reason.NO_CONTENT, "an empty body")
        return body

    def _request_bytes(self, target: Target, keep: bool) -> bytes:
        headers = {
            "User-Agent": self.policy.user_agent,
            "Accept": "image/jpeg,image/png,image/webp,image/gif,image/bmp,*/*;q=0.5",
            "Accept-Encoding": "identity",
            "Connection": "keep-alive" if keep else "close",
        }
        return request_bytes(target, headers)


class _RobotsAttempt(_Attempt):
    """One attempt to fetch a robots.txt, with the same guard and limits. Only its status is checked."""

    def _check_robots(self, target: Target) -> None:
        pass

    def _check(self, head: ResponseHeaders) -> str | None:
        return check_robots_response(head)

    def _body(self, connection: HttpConnection, head: ResponseHeaders) -> bytes:
        return connection.read_prefix(head, MAX_BYTES) if 200 <= head.status < 300 else b""


def _identity(target: Target) -> tuple[str, str, int, str]:
    return target.scheme, target.host, target.port, target.path
