"""One attempt to fetch a URL through the address guard, with redirects and consent checks, within a deadline."""

import time
from collections.abc import Sequence

from laion_assets.dataset.fetch_policy import MIN_RATE_GRACE_S, FetchPolicy
from laion_assets.http.clock import Clock
from laion_assets.http.connecting import connect, socket_rejection
from laion_assets.http.connection_pool import ConnectionPool
from laion_assets.http.consent.robots_cache import RobotsCache
from laion_assets.http.consent.robots_txt import ALLOW_ALL, MAX_BYTES, Rules, parse_robots_txt
from laion_assets.http.hop import Hop
from laion_assets.http.host_limiter import HostLimiter
from laion_assets.http.http_connection import HttpConnection, Rate
from laion_assets.http.memory_budget import MemoryBudget, Reservation
from laion_assets.http.messages.request import request_bytes
from laion_assets.http.messages.response_headers import ResponseHeaders
from laion_assets.http.response_policy import check_response, check_robots_response
from laion_assets.http.tls import TlsSessions
from laion_assets.http.urls.guard import Guard
from laion_assets.http.urls.host_overrides import Endpoint
from laion_assets.http.urls.target import Target, follow, parse_target
from laion_assets.reasons import Reason, Rejection

_NO_ROBOTS = {Reason.TOO_MANY_REDIRECTS, Reason.REDIRECT_LOOP, Reason.BAD_REDIRECT, Reason.UNSUPPORTED_SCHEME}
"""With these reasons a robots.txt is unavailable, so everything is allowed (RFC 9309, 2.3.1.2 and 2.3.1.3)."""


class FetchResources:
    """What all attempts under one policy share: connections, host limits, memory budget, DNS and robots.txt caches."""

    def __init__(self, policy: FetchPolicy, guard: Guard | None = None) -> None:
        self.policy = policy
        self.guard = guard or Guard.of(policy)
        self.pool = ConnectionPool(policy.idle_connections)
        self.limiter = HostLimiter(policy.requests_per_host, policy.requests_per_address, policy.max_retry_after_s)
        self.budget = MemoryBudget(policy.max_bytes_in_flight)
        self.sessions = TlsSessions()
        self.robots = RobotsCache(lambda target: fetch_robots_txt(self, target))

    def clock(self) -> Clock:
        """Return a clock of the policy's limits that starts now."""
        return Clock.start(self.policy.deadline_s, self.policy.connect_timeout_s, self.policy.host_wait_s)


class Attempt:
    """One attempt to fetch a URL, including redirects."""

    def __init__(self, resources: FetchResources, clock: Clock, reservation: Reservation) -> None:
        self.resources = resources
        self.policy = resources.policy
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
        resources, hop, clock = self.resources, self.hops[-1], self.clock
        hop.url = target.url
        self._check_robots(target)
        started = time.monotonic()
        endpoints = resources.guard.endpoints(target, clock.start_wait())
        checked = time.monotonic()
        hop.dns_s = checked - started
        address = None if endpoints[0].own else endpoints[0].address
        resources.limiter.acquire(target.host, address, clock)
        hop.waited_s = time.monotonic() - checked
        try:
            return self._exchange(target, endpoints)
        except OSError as error:
            raise socket_rejection(error) from error
        except Rejection as rejection:
            if rejection.retry_after_s is not None:
                resources.limiter.back_off(target.host, rejection.retry_after_s)
            raise
        finally:
            resources.limiter.release(target.host, address)

    def _exchange(self, target: Target, endpoints: Sequence[Endpoint]) -> tuple[bytes, str | None]:
        """Send the request over an idle connection to a checked endpoint if there is one, else over a new connection.

        If nothing is received over an idle connection, its server has most likely closed it, which is not a failure of
        the URL. The request is then sent again over a new connection, within the same attempt.
        """
        for endpoint in endpoints:
            idle = self.resources.pool.take((target.scheme, target.host, endpoint))
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
            target, endpoints, self.clock, self.policy.ca_file, self.resources.sessions, self.hops[-1]
        )
        return self._send(connection, target, endpoint)

    def _send(self, connection: HttpConnection, target: Target, endpoint: Endpoint) -> tuple[bytes, str | None]:
        policy, hop = self.policy, self.hops[-1]
        hop.address = str(endpoint)
        self.head = None
        keep = False
        connection.start_request(self.clock, Rate(policy.min_bytes_per_s, MIN_RATE_GRACE_S))
        try:
            keep = self.resources.pool.expects(target.scheme, target.host)
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
                self.resources.pool.put((target.scheme, target.host, endpoint), connection)
            else:
                connection.close()

    def _check_robots(self, target: Target) -> None:
        """Raise Rejection if the site's robots.txt disallows the target, or cannot be fetched."""
        if self.policy.robots_txt:
            rules = self.resources.robots.rules(target, self.clock)
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


class _RobotsAttempt(Attempt):
    """One attempt to fetch a robots.txt, with the same guard and limits. Only its status is checked."""

    def _check_robots(self, target: Target) -> None:
        pass

    def _check(self, head: ResponseHeaders) -> str | None:
        return check_robots_response(head)

    def _body(self, connection: HttpConnection, head: ResponseHeaders) -> bytes:
        return connection.read_prefix(head, MAX_BYTES) if 200 <= head.status < 300 else b""


def fetch_robots_txt(resources: FetchResources, target: Target) -> Rules:
    """Fetch the robots.txt of the target's site. Raises Rejection if the site cannot be reached."""
    clock = resources.clock()
    attempt = _RobotsAttempt(resources, clock, Reservation(resources.budget, clock))
    try:
        content = attempt.run(f"{target.scheme}://{target.host_header}/robots.txt")
    except Rejection as rejection:
        if rejection.reason in _NO_ROBOTS:
            return ALLOW_ALL
        raise Rejection(rejection.reason, f"robots.txt: {rejection.detail}") from rejection
    is_missing = attempt.head is not None and not 200 <= attempt.head.status < 300
    return ALLOW_ALL if is_missing else parse_robots_txt(content, resources.policy.opt_out_tokens)


def _identity(target: Target) -> tuple[str, str, int, str]:
    return target.scheme, target.host, target.port, target.path
