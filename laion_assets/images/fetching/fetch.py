"""The guarded fetch of one URL: redirects, retries and consent included, within one deadline."""

import contextlib
import errno
import functools
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from laion_assets.images.fetching.guard import Endpoint, Guard
from laion_assets.images.fetching.http_connection import Clock, Head, HttpConnection
from laion_assets.images.fetching.robots_tag import refused_by
from laion_assets.images.fetching.target import Target, follow, parse_target
from laion_assets.images.reasons import Reason, Rejection

if TYPE_CHECKING:
    from laion_assets.images.settings import ImageSettings

RETRY_PAUSE_S = 0.3
_REDIRECTS = {301, 302, 303, 307, 308}
_NO_ROUTE = {errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
_LOCAL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC, errno.EACCES, errno.EPERM}


@dataclass(frozen=True)
class FetchPolicy:
    """What one fetch may do. Times in seconds, sizes in bytes; picklable. `ca_file` replaces the system's CAs."""

    connect_timeout_s: float = 5.0
    deadline_s: float = 20.0
    max_body_bytes: int = 20_000_000
    max_redirects: int = 5
    retries: int = 1
    allowed_ports: tuple[int, ...] = (80, 443)
    user_agent: str = "laion-assets"
    opt_out_directives: tuple[str, ...] = ("noai", "noimageai", "noindex", "noimageindex")
    opt_out_tokens: tuple[str, ...] = ("laion-assets", "img2dataset")
    resolve: Mapping[str, str] = field(default_factory=dict)
    ca_file: str | None = None

    @classmethod
    def of(cls, images: "ImageSettings", resolve: Mapping[str, str] | None = None) -> "FetchPolicy":
        """The policy of a dataset's image settings and its `resolve`."""
        return cls(
            connect_timeout_s=images.connect_timeout_s,
            deadline_s=images.deadline_s,
            max_body_bytes=images.max_body_bytes,
            max_redirects=images.max_redirects,
            retries=images.retries,
            allowed_ports=images.allowed_ports,
            user_agent=images.user_agent,
            opt_out_directives=images.opt_out_directives,
            opt_out_tokens=images.opt_out_tokens,
            resolve=dict(resolve or {}),
        )


@dataclass(frozen=True)
class Hop:
    """One request on the way: its URL, the endpoint that was connected to, the answer's status."""

    url: str
    address: str | None = None
    status: int | None = None


@dataclass(frozen=True)
class Fetched:
    """What became of a URL: a body where `reason` is `success`, else why there is none. `wire_bytes` were received."""

    url: str
    reason: Reason
    detail: str
    hops: tuple[Hop, ...]
    headers: tuple[tuple[str, str], ...]
    body: bytes
    wire_bytes: int
    attempts: int
    seconds: float

    @property
    def status(self) -> int | None:
        """The last answer's HTTP status, None where there was none."""
        return self.hops[-1].status if self.hops else None

    @property
    def final_url(self) -> str:
        """The URL of the last request, after redirects."""
        return self.hops[-1].url if self.hops else self.url


def fetch(url: str, policy: FetchPolicy | None = None) -> Fetched:
    """Fetch one URL under the policy (the strict default if None). Never raises for what a URL or server does."""
    return Fetcher(policy or FetchPolicy()).fetch(url)


class Fetcher:
    """Fetches URLs under one policy, sharing its DNS cache and TLS context. Thread-safe."""

    def __init__(self, policy: FetchPolicy, guard: Guard | None = None) -> None:
        self.policy = policy
        self._guard = guard or Guard(policy.resolve, policy.allowed_ports)

    def fetch(self, url: str) -> Fetched:
        """Fetch one URL. Retryable failures are tried again while tries and time are left."""
        policy = self.policy
        clock = Clock.start(policy.deadline_s, policy.connect_timeout_s)
        started = time.monotonic()
        attempts = wire_bytes = 0
        while True:
            attempts += 1
            attempt = _Attempt(self, clock)
            try:
                body = attempt.run(url)
                reason, detail, retry_after_s = Reason.SUCCESS, "", None
            except Rejection as rejection:
                body = b""
                reason, detail, retry_after_s = rejection.reason, rejection.detail, rejection.retry_after_s
            except Exception as error:  # one row's accident, never the worker's end
                body, retry_after_s = b"", None
                reason, detail = Reason.INTERNAL, type(error).__name__
            wire_bytes += attempt.wire_bytes
            pause_s = RETRY_PAUSE_S if retry_after_s is None else retry_after_s
            if not reason.retryable or attempts > policy.retries or pause_s >= clock.ends - time.monotonic():
                break
            time.sleep(pause_s)
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
        )


class _Attempt:
    """One try at a URL, redirects included."""

    def __init__(self, fetcher: Fetcher, clock: Clock) -> None:
        self.policy = fetcher.policy
        self.guard = fetcher._guard
        self.clock = clock
        self.hops: list[Hop] = []
        self.head: Head | None = None
        self.wire_bytes = 0

    def run(self, url: str) -> bytes:
        """The body behind the URL. Raises Rejection."""
        self.hops.append(Hop(url))
        target = parse_target(url)
        seen = {_identity(target)}
        while True:
            body, location = self._request(target)
            if location is None:
                return body
            target = follow(target, location)
            if _identity(target) in seen:
                raise Rejection(Reason.REDIRECT_LOOP, "a redirect to a URL that was asked before")
            if len(seen) > self.policy.max_redirects:
                raise Rejection(Reason.TOO_MANY_REDIRECTS, f"more than {self.policy.max_redirects} redirects")
            seen.add(_identity(target))
            self.hops.append(Hop(target.url))

    def _request(self, target: Target) -> tuple[bytes, str | None]:
        """(body, None) of a final answer, or (nothing, location) of a redirect."""
        endpoints = self.guard.endpoints(target, self.clock.wait())
        sock, endpoint = _connect(endpoints, self.clock)
        self.hops[-1] = Hop(target.url, str(endpoint))
        try:
            if target.scheme == "https":
                sock = _wrap_tls(sock, target.host, self.clock, self.policy.ca_file)
            connection = HttpConnection(sock, self.clock)
            try:
                connection.send(self._request_bytes(target))
                head = self.head = connection.read_head()
                self.hops[-1] = Hop(target.url, str(endpoint), head.status)
                location = self._judge(head)
                if location is not None:
                    return b"", location
                body = connection.read_body(head, self.policy.max_body_bytes)
                if not body:
                    raise Rejection(Reason.NO_CONTENT, "an empty body")
                return body, None
            finally:
                self.wire_bytes += connection.received
        except OSError as error:
            raise _rejection_of(error) from error
        finally:
            with contextlib.suppress(OSError):
                sock.close()

    def _request_bytes(self, target: Target) -> bytes:
        lines = (
            f"GET {target.path} HTTP/1.1",
            f"Host: {target.host_header}",
            f"User-Agent: {self.policy.user_agent}",
            "Accept: image/jpeg,image/png,image/webp,image/gif,image/bmp,*/*;q=0.5",
            "Accept-Encoding: identity",
            "Connection: close",
        )
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")

    def _judge(self, head: Head) -> str | None:
        """None if the body is to be read, the Location of a redirect; raises Rejection for everything else."""
        if head.status in _REDIRECTS:
            location = head.get("location")
            if location is None:
                raise Rejection(Reason.BAD_REDIRECT, f"HTTP {head.status} without a Location header")
            return location
        if head.status == 204:
            raise Rejection(Reason.NO_CONTENT, "HTTP 204")
        if head.status not in (200, 203):
            raise Rejection(Reason.of_http_status(head.status), f"HTTP {head.status}", _retry_after_s(head))
        refused = refused_by(
            head.all("x-robots-tag"),
            head.all("tdm-reservation"),
            self.policy.opt_out_directives,
            self.policy.opt_out_tokens,
        )
        if refused is not None:
            raise Rejection(Reason.OPTED_OUT, refused)
        return None


@functools.lru_cache(maxsize=8)
def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """The one TLS context of a process: certificates and host names are verified, TLS 1.2 and later.

    Making one costs 30 ms (it parses the CAs), so it is shared. SSL_CERT_FILE names other CAs, as for all of OpenSSL.
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _connect(endpoints: Sequence[Endpoint], clock: Clock) -> tuple[socket.socket, Endpoint]:
    """A socket to the first endpoint that answers. Raises Rejection."""
    failure: Rejection | None = None
    for endpoint in endpoints:
        family = socket.AF_INET6 if endpoint.address.version == 6 else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.settimeout(clock.wait())
                sock.connect((str(endpoint.address), endpoint.port))
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock, endpoint
            except BaseException:
                sock.close()
                raise
        except TimeoutError:
            failure = failure or clock.timed_out()
        except OSError as error:
            failure = failure or _rejection_of(error, connecting=True)
    raise failure or Rejection(Reason.DNS_FAILURE, "the host has no address")


def _wrap_tls(sock: socket.socket, host: str, clock: Clock, ca_file: str | None) -> ssl.SSLSocket:
    sock.settimeout(clock.wait())
    try:
        return tls_context(ca_file).wrap_socket(sock, server_hostname=host.removesuffix("."))
    except TimeoutError as error:
        raise clock.timed_out() from error
    except ssl.SSLCertVerificationError as error:
        raise Rejection(Reason.TLS_FAILURE, error.verify_message or "the certificate was not verified") from error
    except (ssl.SSLError, ValueError) as error:
        raise Rejection(Reason.TLS_FAILURE, getattr(error, "reason", None) or "the handshake failed") from error


def _rejection_of(error: OSError, connecting: bool = False) -> Rejection:
    name = errno.errorcode.get(error.errno or 0, type(error).__name__)
    if error.errno in _NO_ROUTE:
        return Rejection(Reason.NO_ROUTE, name)
    if error.errno in _LOCAL:
        return Rejection(Reason.LOCAL_FAULT, name)
    if connecting and error.errno != errno.ECONNRESET:
        return Rejection(Reason.CONNECT_FAILURE, name)
    return Rejection(Reason.CONNECTION_RESET, "the connection was reset")


def _retry_after_s(head: Head) -> float | None:
    """Retry-After in seconds (RFC 9110, 10.2.3); a date counts as later than any deadline of ours."""
    value = (head.get("retry-after") or "").strip()
    if not value:
        return None
    return float(value) if value.isascii() and value.isdigit() else float("inf")


def _identity(target: Target) -> tuple[str, str, int, str]:
    return target.scheme, target.host, target.port, target.path
