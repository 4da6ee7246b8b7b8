"""HTTP for the operator's own source: kept connections, resolved names, redirects, bounded waits.

The source of CSVs is named by whoever runs the pipeline, so it may lie on any address, unlike the URLs of the rows,
which strangers wrote and which the image stage guards.
"""

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from functools import partial
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from laion_assets.errors import SettingError, SourceError

MAX_REDIRECTS = 5
USER_AGENT = "laion-assets (+https://github.com/laion-assets/laion-assets)"
_REDIRECTS = (301, 302, 303, 307, 308)
_SAFE = "/%:=&?~#+!$,;'@()*[]"


class HttpSource:
    """GET requests over connections that each thread keeps open. Names are resolved by `resolve` before DNS."""

    def __init__(self, resolve: Mapping[str, str], timeout_s: float) -> None:
        self._resolve = dict(resolve)
        self._timeout_s = timeout_s
        self._kept = threading.local()
        self._all: list[http.client.HTTPConnection] = []
        self._tls = ssl.create_default_context()

    @contextlib.contextmanager
    def get(self, url: str, headers: Mapping[str, str]) -> Iterator[tuple[http.client.HTTPResponse, str]]:
        """The response to a GET, after redirects, and the URL that gave it.

        A body that is not read to its end costs the connection. Raises SourceError for a redirect that is refused (to
        another scheme than http and https, from https to http, or too many); OSError and http.client.HTTPException as
        the network fails.
        """
        for _ in range(MAX_REDIRECTS + 1):
            connection, response = self._request(url, headers)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location:
                try:
                    yield response, url
                finally:
                    if not response.isclosed():
                        connection.close()
                return
            connection.close()
            target = urljoin(url, location)
            scheme = urlsplit(target).scheme.lower()
            if scheme not in ("http", "https") or (scheme == "http" and url.lower().startswith("https:")):
                raise SourceError(
                    f"{url} redirects to {target}: refused, only http and https, and not from https to http."
                )
            url = target
        raise SourceError(f"{url} redirects more than {MAX_REDIRECTS} times: correct the dataset's source.")

    def close(self) -> None:
        """Close every kept connection."""
        for connection in self._all:
            connection.close()

    def _request(
        self, url: str, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        parts = urlsplit(url)
        target = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
        connection = self._connection(url)
        fresh = connection.sock is None
        sent = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers}
        try:
            connection.request("GET", target, headers=sent)
            return connection, connection.getresponse()
        except (http.client.HTTPException, OSError):
            connection.close()
            if fresh:
                raise
        # A kept connection that the server closed meanwhile says nothing about the server.
        try:
            connection.request("GET", target, headers=sent)
            return connection, connection.getresponse()
        except (http.client.HTTPException, OSError):
            connection.close()
            raise

    def _connection(self, url: str) -> http.client.HTTPConnection:
        parts = urlsplit(url)
        try:
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise SourceError(f"{url} is no URL: {error}.") from error
        if not host or parts.scheme not in ("http", "https"):
            raise SourceError(f"{url} is no http or https URL with a host: correct the dataset's source.")
        kept = self._kept.__dict__.setdefault("connections", {})
        key = (parts.scheme, host, port)
        if key not in kept:
            if parts.scheme == "https":
                kept[key] = http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=self._tls)
            else:
                kept[key] = http.client.HTTPConnection(host, port, timeout=self._timeout_s)
            address = resolved_address(self._resolve, host)
            if address is not None:
                kept[key]._create_connection = partial(_connect, address)
            self._all.append(kept[key])
        connection: http.client.HTTPConnection = kept[key]
        return connection


def _connect(address: tuple[str, int], named: Any, timeout: float, source: Any = None) -> socket.socket:
    """Connect to an address of `resolve` instead of the one that the URL names."""
    return socket.create_connection(address, timeout)


def resolved_address(resolve: Mapping[str, str], host: str) -> tuple[str, int] | None:
    """The address and port that `resolve` gives for a host: the exact name first, then the longest pattern.

    Raises SettingError for a value that is not `address:port`.
    """
    host = host.lower().rstrip(".")
    matching = [pattern for pattern in resolve if fnmatch(host, pattern.lower())]
    if not matching:
        return None
    best = max(matching, key=lambda pattern: (pattern.lower() == host, len(pattern)))
    address, _, port = resolve[best].rpartition(":")
    if not address or not port.isdigit():
        raise SettingError(f"resolve maps {best} to {resolve[best]!r}: it has to be address:port.")
    return address.strip("[]"), int(port)
