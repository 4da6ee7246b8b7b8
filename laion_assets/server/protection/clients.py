"""A limit for each client: requests of one address that are in progress at the same time."""

import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from laion_assets.server.api.answers import ApiError, error_response

IPV6_PREFIX = 64
"""Bits of an IPv6 address that stand for a client: providers give each of them a network of this size."""
PROBES = ("/healthz", "/readyz")
"""Paths without this limit: an orchestrator must not take a busy service for a dead one."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ClientLimits:
    """ASGI middleware that refuses a request (429) if its client has `max_requests` others in progress.

    One client can then neither fill the queue of searches nor keep all others from sending large or slow bodies.
    """

    def __init__(self, app: ASGIApp, max_requests: int, proxies: Sequence[str] = ()) -> None:
        self._app = app
        self._max_requests = max_requests
        self._proxies = [ipaddress.ip_network(proxy) for proxy in proxies]
        self._active: dict[str, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        peer = scope["client"][0] if scope.get("client") else ""
        client = find_client(peer, Headers(scope=scope).getlist("x-forwarded-for"), self._proxies)
        active = self._active.get(client, 0)
        if active >= self._max_requests:
            error = ApiError(
                429,
                "too_many_requests",
                f"{active:,} requests of your address are in progress. Try again in a moment.",
                retry_after_s=1,
            )
            await error_response(error)(scope, receive, send)
            return
        self._active[client] = active + 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._active[client] -= 1
            if not self._active[client]:
                del self._active[client]


def find_client(peer: str, forwarded: Sequence[str], proxies: Sequence[Network]) -> str:
    """Return the client of a request: its IPv4 address, its IPv6 network, or "" for a peer without an address.

    `forwarded` are the values of X-Forwarded-For. Each proxy appends the address that it talks to, and a client may
    send the header itself, so it is read from its end, and only as far as the addresses are those of `proxies`.
    """
    client = _parse_address(peer)
    if client is None:
        return ""
    entries = [entry for value in forwarded for entry in value.split(",")]
    while entries and any(client in proxy for proxy in proxies):
        before = _parse_address(entries.pop().strip())
        if before is None:
            break
        client = before
    if client.version == 6:
        return str(ipaddress.ip_network((client, IPV6_PREFIX), strict=False))
    return str(client)


def _parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address, IPv4 if it is one mapped to IPv6; None for other text. A port and a zone are ignored."""
    text = text.partition("%")[0]
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
