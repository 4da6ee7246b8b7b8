"""Connections and responses of `http.client` under the address guard and the limits of a policy."""

import http.client
from dataclasses import dataclass
from functools import partial
from typing import Any

from laion_assets.dataset.fetch_policy import MIN_RATE_GRACE_S, FetchPolicy
from laion_assets.http.connecting import connect_socket, socket_rejection
from laion_assets.http.http_connection import Rate
from laion_assets.http.messages.content_coding import too_large
from laion_assets.http.tls import wrap_tls
from laion_assets.http.urllib_opener.bounded_socket import BoundedSocket
from laion_assets.http.urllib_opener.visit import Visit
from laion_assets.http.urls.guard import Guard
from laion_assets.http.urls.target import Target, parse_target
from laion_assets.reasons import Reason, Rejection

_NOT_IN_A_HOST = frozenset("@/\\?#%")


@dataclass(frozen=True)
class Limits:
    """The policy and guard of a connection, and the visit that it belongs to."""

    policy: FetchPolicy
    guard: Guard
    visit: Visit


class GuardedConnection(http.client.HTTPConnection):
    """Connects to an address that the guard checked for the host that `http.client` reads from the URL."""

    scheme = "http"

    def __init__(self, host: str, timeout: float, limits: Limits) -> None:
        super().__init__(host, timeout=timeout)
        self._limits = limits
        self.response_class = partial(BoundedResponse, limits=limits)  # type: ignore[assignment]

    def connect(self) -> None:
        """Raises Rejection, by the guard or for a host that does not answer."""
        policy, visit = self._limits.policy, self._limits.visit
        target = self._target()
        endpoints = self._limits.guard.endpoints(target, visit.clock.start_wait())
        sock, endpoint = connect_socket(endpoints, visit.clock)
        visit.hops[-1].address = str(endpoint)
        if self.scheme == "https":
            try:
                sock = wrap_tls(sock, target.host, visit.clock, policy.ca_file)
            except OSError as error:
                sock.close()
                raise socket_rejection(error) from error
            except BaseException:
                sock.close()
                raise
        rate = Rate(policy.min_bytes_per_s, MIN_RATE_GRACE_S)
        self.sock = BoundedSocket(sock, visit, rate)

    def _target(self) -> Target:
        """Return the host and port that `http.client` parsed: a difference between two URL parsers has no effect."""
        if not _NOT_IN_A_HOST.isdisjoint(self.host):
            raise Rejection(Reason.INVALID_URL, "invalid host name")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return parse_target(f"{self.scheme}://{host}:{self.port}/")


class GuardedTlsConnection(GuardedConnection):
    """The same over TLS. Certificates and host names are verified."""

    scheme = "https"
    default_port = http.client.HTTPS_PORT


class BoundedResponse(http.client.HTTPResponse):
    """A response whose body is limited to `max_body_bytes`."""

    def __init__(self, *args: Any, limits: Limits, **options: Any) -> None:
        super().__init__(*args, **options)
        self._limits = limits

    def read(self, amt: int | None = None) -> bytes:
        """Return the body. Raises Rejection: `too_large`, `short_body`, `bad_response`, `deadline`."""
        limit = self._limits.policy.max_body_bytes
        if amt is not None:
            return super().read(amt)
        if self.length is not None and self.length > limit:
            raise too_large(limit)
        try:
            body = super().read(None if self.length is not None else limit + 1)
        except http.client.IncompleteRead as error:
            raise Rejection(Reason.SHORT_BODY, str(error)) from error
        except http.client.HTTPException as error:
            raise Rejection(Reason.BAD_RESPONSE, str(error)) from error
        if len(body) > limit:
            raise too_large(limit)
        self._limits.visit.body_bytes += len(body)
        return body
