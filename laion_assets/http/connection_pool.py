"""Idle connections, limited in number and time. The least recently used connection is closed first.

A connection is stored under its scheme, host, checked address and port. The caller has checked the host's address for
the same request, so an idle connection never bypasses a changed DNS answer.
"""

import select
import threading
import time
from collections import OrderedDict

from laion_assets.http.http_connection import HttpConnection
from laion_assets.http.urls.host_overrides import Endpoint

IDLE_S = 15.0
"""Longer than Apache keeps a connection (5 s), shorter than nginx (75 s) and the timeouts of routers."""

Key = tuple[str, str, Endpoint]


class ConnectionPool:
    """Idle connections, at most `max_idle` in all, each for at most `idle_s`. Thread-safe.

    Most hosts of a crawl get one request. Keeping their connections would cost the server and this process. So a
    connection is only kept if the host is among the last `max_idle` hosts that were requested.
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
        """Return whether to keep a connection to the host, and remember that the host was requested."""
        site = (scheme, host)
        with self._lock:
            known = site in self._recent
            self._recent[site] = None
            self._recent.move_to_end(site)
            if len(self._recent) > self._max_idle:
                self._recent.popitem(last=False)
        return known

    def take(self, key: Key) -> HttpConnection | None:
        """Return the most recently used idle connection. Closes those that their server closed or wrote to."""
        while True:
            with self._lock:
                connections = self._by_key.get(key)
                if not connections:
                    return None
                connection = connections[-1]
                _, since = self._remove(connection)
            if time.monotonic() - since < self._idle_s and not _is_readable(connection):
                return connection
            connection.close()

    def put(self, key: Key, connection: HttpConnection) -> None:
        """Keep a connection whose last response was read to its end. The pool may close it at any time."""
        to_close: list[HttpConnection] = []
        now = time.monotonic()
        with self._lock:
            if self._closed:
                to_close.append(connection)
            else:
                self._idle[connection] = (key, now)
                self._by_key.setdefault(key, []).append(connection)
            while self._idle:
                oldest = next(iter(self._idle))
                if len(self._idle) <= self._max_idle and now - self._idle[oldest][1] < self._idle_s:
                    break
                self._remove(oldest)
                to_close.append(oldest)
        for connection in to_close:
            connection.close()

    def close(self) -> None:
        """Close all idle connections, and every connection that is put from now on."""
        with self._lock:
            self._closed = True
            connections = list(self._idle)
            self._idle.clear()
            self._by_key.clear()
        for connection in connections:
            connection.close()

    def _remove(self, connection: HttpConnection) -> tuple[Key, float]:
        key, since = self._idle.pop(connection)
        connections = self._by_key[key]
        connections.remove(connection)
        if not connections:
            del self._by_key[key]
        return key, since


def _is_readable(connection: HttpConnection) -> bool:
    """Return whether the server closed an idle connection, or sent something without a request."""
    try:
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True
