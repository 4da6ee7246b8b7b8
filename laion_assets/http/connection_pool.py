"""Connections that wait for their next request: bounded in number and time, the least recently used goes first.

A connection is kept by scheme, host, checked address and port. Whoever asks for one has had the host's address checked
for this very request, so a changed DNS answer is never undone by a kept connection.
"""

import select
import threading
import time
from collections import OrderedDict

from laion_assets.http.http_connection import HttpConnection
from laion_assets.http.urls.host_overrides import Endpoint

IDLE_S = 15.0
"""Longer than Apache keeps a connection (5 s), shorter than nginx (75 s) and than what routers forget."""

Key = tuple[str, str, Endpoint]


class ConnectionPool:
    """Idle connections, at most `max_idle` in all, each for at most `idle_s`. Thread-safe.

    Most hosts of a crawl are asked once: for them a kept connection is a cost to both sides. So one is only asked for
    where the host was asked among the last `max_idle` others, which is when it might have been found here.
    """

    def __init__(self, max_idle: int, idle_s: float = IDLE_S) -> None:
        self._max_idle = max_idle
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._idle: OrderedDict[HttpConnection, tuple[Key, float]] = OrderedDict()
        self._by_key: dict[Key, list[HttpConnection]] = {}
        self._recent: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._closed = False

    def __len__(self) -> int:
        return len(self._idle)

    def expects(self, scheme: str, host: str) -> bool:
        """Whether a connection to the host is worth keeping; the host counts as asked from now on."""
        site = (scheme, host)
        with self._lock:
            known = site in self._recent
            self._recent[site] = None
            self._recent.move_to_end(site)
            if len(self._recent) > self._max_idle:
                self._recent.popitem(last=False)
        return known

    def take(self, key: Key) -> HttpConnection | None:
        """The connection last used, if one is idle. One on which its server has sent or closed something is ended."""
        while True:
            with self._lock:
                connections = self._by_key.get(key)
                if not connections:
                    return None
                connection = connections[-1]
                _, since = self._forget(connection)
            if time.monotonic() - since < self._idle_s and not _has_news(connection):
                return connection
            connection.close()

    def put(self, key: Key, connection: HttpConnection) -> None:
        """Keep a connection whose last answer was read to its framed end; it may be ended at any time."""
        ended: list[HttpConnection] = []
        now = time.monotonic()
        with self._lock:
            if self._closed:
                ended.append(connection)
            else:
                self._idle[connection] = (key, now)
                self._by_key.setdefault(key, []).append(connection)
            while self._idle:
                oldest = next(iter(self._idle))
                if len(self._idle) <= self._max_idle and now - self._idle[oldest][1] < self._idle_s:
                    break
                self._forget(oldest)
                ended.append(oldest)
        for connection in ended:
            connection.close()

    def close(self) -> None:
        """End all idle connections, and from now on each that is put."""
        with self._lock:
            self._closed = True
            connections = list(self._idle)
            self._idle.clear()
            self._by_key.clear()
        for connection in connections:
            connection.close()

    def _forget(self, connection: HttpConnection) -> tuple[Key, float]:
        key, since = self._idle.pop(connection)
        connections = self._by_key[key]
        connections.remove(connection)
        if not connections:
            del self._by_key[key]
        return key, since


def _has_news(connection: HttpConnection) -> bool:
    """Whether an idle connection is readable: closed by its server, or sent what nobody asked for."""
    try:
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True
