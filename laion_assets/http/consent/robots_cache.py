"""A cache of each site's robots.txt. It is fetched once and kept for at most a day (RFC 9309, 2.4)."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from laion_assets.http.clock import Clock
from laion_assets.http.consent.robots_txt import Rules
from laion_assets.http.urls.target import Target
from laion_assets.reasons import Reason, Rejection

KEPT_S = 24 * 3600.0
UNREACHABLE_KEPT_S = 300.0
MAX_SITES = 20_000
MAX_KEPT_BYTES = 64_000_000
"""Limit for the total size of the cached robots.txt files. The least recently used are dropped first."""

Site = tuple[str, str, int]


class RobotsCache:
    """The rules of sites, by scheme, host and port. Thread-safe.

    `load(target)` returns a site's rules, or raises the Rejection of a site that cannot be reached. Then nothing of the
    site may be fetched (RFC 9309, 2.3.1.4), and every URL of the site gets the same Rejection.
    """

    def __init__(self, load: Callable[[Target], Rules]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._sites: OrderedDict[Site, tuple[float, Future[Rules]]] = OrderedDict()
        self._bytes = 0

    def rules(self, target: Target, clock: Clock) -> Rules:
        """Return the rules of the target's site. One caller fetches them, the others wait. Raises Rejection."""
        site = (target.scheme, target.host, target.port)
        now = time.monotonic()
        with self._lock:
            found = self._sites.get(site)
            must_load = found is None or found[0] <= now
            if must_load:
                self._remove(site)
                future: Future[Rules] = Future()
                self._sites[site] = (float("inf"), future)
            elif found is not None:
                future = found[1]
            self._sites.move_to_end(site)
        if must_load:
            started = time.monotonic()
            self._load_rules(site, future, target)
            clock.add_queue_time(time.monotonic() - started)
        elif not future.done():
            self._wait(future, clock)
        return future.result()

    def _load_rules(self, site: Site, future: "Future[Rules]", target: Target) -> None:
        try:
            rules, kept_s = self._load(target), KEPT_S
            future.set_result(rules)
        except BaseException as error:
            kept_s = UNREACHABLE_KEPT_S if isinstance(error, Rejection) else 0.0
            future.set_exception(error)
        with self._lock:
            if self._sites.get(site, (0.0, None))[1] is future:
                self._sites[site] = (time.monotonic() + kept_s, future)
                self._bytes += _size(future)
            while len(self._sites) > MAX_SITES or self._bytes > MAX_KEPT_BYTES:
                self._remove(next(iter(self._sites)))

    def _remove(self, site: Site) -> None:
        found = self._sites.pop(site, None)
        if found is not None and found[1].done():
            self._bytes -= _size(found[1])

    def _wait(self, future: "Future[Rules]", clock: Clock) -> None:
        started = time.monotonic()
        try:
            future.exception(max(0.0, clock.queue_timeout_s))
        except FutureTimeoutError as error:
            raise Rejection(
                Reason.HOST_BUSY, "its site's robots.txt took longer than images.fetch.host_wait_s"
            ) from error
        finally:
            clock.add_queue_time(time.monotonic() - started)


def _size(future: "Future[Rules]") -> int:
    return 0 if future.exception() is not None else future.result().size
