"""HTTP for the operator's own source: kept connections, resolved names, redirects, bounded waits.

The source of CSVs is named by whoever runs the pipeline, so it may lie on any address, unlike the URLs of the rows,
which strangers wrote and which the image stage guards.
"""

import asyncio
import contextlib
import re
import ssl
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from fnmatch import fnmatch
from functools import lru_cache
from urllib.parse import quote, urljoin, urlsplit

from laion_assets.errors import SettingError, SourceError
from laion_assets.metadata.http_answer import MAX_HEAD_BYTES, Answer, Connection

MAX_REDIRECTS = 5
USER_AGENT = "laion-assets (+https://github.com/laion-assets/laion-assets)"
_REDIRECTS = (301, 302, 303, 307, 308)
_SAFE = "/%:=&?~#+!$,;'@()*[]"
_ENCODED = re.compile(r"[\w.~/%:=&?+!$,;'@()*-]+", re.ASCII)
_DRAIN_S = 1.0
"""Longest wait for the rest of a short body that nobody wants; another connection is cheaper after that."""

Host = tuple[str, str, int]
"""Scheme, name and port."""


class HttpSource:
    """GET requests over kept connections, at most `per_host` to a host. Names are resolved by `resolve` before DNS.

    Belongs to one event loop: use it with `async with`.
    """

    def __init__(self, resolve: Mapping[str, str], timeout_s: float, per_host: int) -> None:
        self._resolve = dict(resolve)
        self._timeout_s = timeout_s
        self._slots: dict[Host, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(per_host))
        self._idle: dict[Host, list[Connection]] = defaultdict(list)
        self._open: set[Connection] = set()
        self._tls: ssl.SSLContext | None = None
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "HttpSource":
        self._watch = asyncio.create_task(self._end_silent_connections())
        return self

    async def __aexit__(self, *raised: object) -> None:
        if self._watch is not None:
            self._watch.cancel()
        for connection in self._open:
            connection.close()
        self._open.clear()

    @contextlib.asynccontextmanager
    async def get(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Answer]:
        """The answer to a GET, after redirects.

        A long body that is not read to its end costs the connection. Raises SourceError for what is no URL and for a
        redirect that is refused (to another scheme than http and https, from https to http, or too many); OSError and
        EOFError as the network fails.
        """
        for _ in range(MAX_REDIRECTS + 1):
            host = host_of(url)
            async with self._slots[host]:
                connection, answer = await self._request(host, url, headers)
                try:
                    location = answer.headers.get("location") if answer.status in _REDIRECTS else None
                    if location is None:
                        yield answer
                        return
                except BaseException:
                    if not answer.reusable:
                        self._end(connection)
                    raise
                finally:
                    if connection in self._open:
                        await self._give_back(host, connection, answer)
            target = urljoin(url, location)
            scheme = urlsplit(target).scheme.lower()
            if scheme not in ("http", "https") or (scheme == "http" and url.lower().startswith("https:")):
                raise SourceError(
                    f"{url} redirects to {target}: refused, only http and https, and not from https to http."
                )
            url = target
        raise SourceError(f"{url} redirects more than {MAX_REDIRECTS} times: correct the dataset's source.")

    async def _request(self, host: Host, url: str, headers: Mapping[str, str]) -> tuple[Connection, Answer]:
        target = _target(url)
        sent = {"Host": _host_header(host), "User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers}
        lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items()), "", ""]
        request = "\r\n".join(lines).encode("latin-1", "replace")
        while True:
            idle = self._idle[host]
            connection = idle.pop() if idle else await self._connect(host)
            try:
                connection.writer.write(request)
                return connection, Answer(connection, url, *await connection.head())
            except TimeoutError:
                self._end(connection)
                raise
            except (OSError, EOFError):
                self._end(connection)
                if connection.fresh:
                    raise
                # A kept connection that the server closed meanwhile says nothing about the server: the next one.
            except BaseException:
                self._end(connection)
                raise

    async def _give_back(self, host: Host, connection: Connection, answer: Answer) -> None:
        try:
            if answer.rest_is_short:
                async with asyncio.timeout(_DRAIN_S):
                    while await answer.read(1 << 16):
                        pass
        except (OSError, EOFError):
            pass
        finally:
            if answer.reusable:
                connection.fresh = False
                self._idle[host].append(connection)
            else:
                self._end(connection)

    async def _connect(self, host: Host) -> Connection:
        scheme, name, port = host
        address, port = resolved_address(self._resolve, name) or (name, port)
        tls = None
        if scheme == "https":
            self._tls = self._tls or ssl.create_default_context()
            tls = self._tls
        try:
            async with asyncio.timeout(self._timeout_s):
                reader, writer = await asyncio.open_connection(
                    address, port, limit=MAX_HEAD_BYTES, ssl=tls, server_hostname=name if tls else None
                )
        except TimeoutError as error:
            raise TimeoutError(f"no connection to {name} within {self._timeout_s:g} s") from error
        connection = Connection(reader, writer)
        self._open.add(connection)
        return connection

    def _end(self, connection: Connection) -> None:
        connection.close()
        self._open.discard(connection)

    async def _end_silent_connections(self) -> None:
        """One watch for all instead of a timer for each read."""
        while True:
            await asyncio.sleep(min(self._timeout_s / 4, 1.0))
            latest = time.monotonic() - self._timeout_s
            for connection in list(self._open):
                if connection.waiting_since and connection.waiting_since < latest:
                    connection.silent = True
                    connection.close()


def _target(url: str) -> str:
    """Path and query of a URL, encoded where they are not."""
    parts = urlsplit(url)
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    return target if _ENCODED.fullmatch(target) else quote(target, safe=_SAFE)


def host_of(url: str) -> Host:
    """Scheme, name and port of a URL. Raises SourceError for what is no http or https URL with a host."""
    end = url.find("/", 8)
    return _host_of(url if end < 0 else url[:end])


@lru_cache(4_096)
def _host_of(url: str) -> Host:
    try:
        parts = urlsplit(url)
        name, port = parts.hostname, parts.port
    except ValueError as error:
        raise SourceError(f"{url} is no URL: {error}.") from error
    if not name or parts.scheme not in ("http", "https"):
        raise SourceError(f"{url} is no http or https URL with a host: correct the dataset's source.")
    try:
        name = name if name.isascii() else name.encode("idna").decode()
    except UnicodeError as error:
        raise SourceError(f"{url} has a host that is no name: {error}.") from error
    return parts.scheme, name, port or (443 if parts.scheme == "https" else 80)


def _host_header(host: Host) -> str:
    scheme, name, port = host
    name = f"[{name}]" if ":" in name else name
    return name if port == (443 if scheme == "https" else 80) else f"{name}:{port}"


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
