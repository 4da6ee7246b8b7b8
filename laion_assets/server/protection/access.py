"""Who may call the service: Host header, origin of other pages, token. And headers that protect browsers."""

import fnmatch
import hmac
import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from laion_assets.server.api.answers import ApiError, error_response

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
EXPOSED_HEADERS = "Retry-After, X-Export-Rows, X-Ignored-Fields, X-Recipe-Digest, X-Safety-Model"
"""Headers of answers that pages of allowed origins may read."""
OPEN_PATHS = ("/", "/healthz", "/readyz")
OPEN_FOLDER = "/page/"
"""Paths that need no token: the probes of an orchestrator, and the files of the search page, which have no data. A
browser opens a page without a token; the page then asks for it."""


class AccessControl:
    """ASGI middleware that checks the Host header (421), the origin (403) and the token (401) of each request.

    The Host check keeps a web page from reaching a service on loopback by a name of its own (DNS rebinding). A page of
    another origin may call the API only if its origin is allowed: browsers send some requests without asking first.
    """

    def __init__(
        self, app: ASGIApp, allowed_hosts: Sequence[str], cors_origins: Sequence[str], token: str = ""
    ) -> None:
        self._app = app
        self._allowed_hosts = [host.lower() for host in allowed_hosts]
        self._cors_origins = frozenset(cors_origins)
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        allowed_origin = origin if origin in self._cors_origins else ""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = MutableHeaders(raw=message.setdefault("headers", []))
                for name, value in SECURITY_HEADERS.items():
                    added.setdefault(name, value)
                if allowed_origin:
                    added["Access-Control-Allow-Origin"] = allowed_origin
                    added["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
                    added["Cross-Origin-Resource-Policy"] = "cross-origin"
                if self._cors_origins:
                    added.add_vary_header("Origin")
            await send(message)

        error = self._find_error(scope, headers, origin, allowed_origin)
        if error is not None:
            await error_response(error)(scope, receive, send_with_headers)
        elif scope["method"] == "OPTIONS" and allowed_origin:
            await _answer_preflight(send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)

    def _find_error(self, scope: Scope, headers: Headers, origin: str, allowed_origin: str) -> ApiError | None:
        host = headers.get("host", "")
        if not is_allowed_host(host, self._allowed_hosts):
            return ApiError(
                421,
                "invalid_host",
                f"The service does not answer for the host {host[:80]!r}. Set search.allowed_hosts.",
            )
        if origin and not allowed_origin and origin != f"{scope['scheme']}://{host}" and not _same_host(origin, host):
            return ApiError(
                403, "invalid_origin", "Pages of this origin may not call the API. Set search.cors_origins."
            )
        if self._token and not is_open_path(scope["path"]) and scope["method"] != "OPTIONS":
            kind, _, sent = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not hmac.compare_digest(sent.strip().encode(), self._token):
                return ApiError(401, "unauthorized", "Send the header Authorization: Bearer TOKEN.")
        return None


def is_open_path(path: str) -> bool:
    """Whether a path needs no token. A path with dots needs one: it may lead out of the folder."""
    return path in OPEN_PATHS or (path.startswith(OPEN_FOLDER) and ".." not in path)


def is_allowed_host(host: str, allowed: Sequence[str]) -> bool:
    """Whether the service answers for a Host header: a loopback name or address, or one of the allowed patterns."""
    name = host.lower()
    name = name.partition("]")[0] + "]" if name.startswith("[") else name.partition(":")[0]
    if name == "localhost" or any(fnmatch.fnmatchcase(name, pattern) for pattern in allowed):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _same_host(origin: str, host: str) -> bool:
    """Whether an origin is the service itself behind a proxy that ends TLS: https outside, http here."""
    return origin.partition("://")[2].lower() == host.lower()


async def _answer_preflight(send: Send) -> None:
    headers = [
        (b"access-control-allow-methods", b"GET, POST"),
        (b"access-control-allow-headers", b"Authorization, Content-Type"),
        (b"access-control-max-age", b"600"),
        (b"content-length", b"0"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
