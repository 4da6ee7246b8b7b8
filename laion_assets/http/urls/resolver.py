"""A DNS cache with a timeout for lookups.

`getaddrinfo` has no timeout, so each lookup runs in its own thread. Callers that request the same host meanwhile share
the lookup. A lookup continues in its thread after its callers have timed out.
"""

import functools
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from laion_assets.http.urls.addresses import Address, parse_address
from laion_assets.reasons import Reason, Rejection

TTL_S = 300.0
"""How long an address is cached, in seconds. Python's resolver does not return the record's TTL."""
NEGATIVE_TTL_S = 30.0
MAX_HOSTS = 50_000

Lookup = Callable[[str], list[Address]]


def system_lookup(host: str) -> list[Address]:
    """Return all addresses of a host in the order of the system's resolver (RFC 6724). Raises OSError, UnicodeError."""
    answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(parse_address(str(sockaddr[0])) for *_, sockaddr in answers))


class Resolver:
    """A thread-safe DNS cache. Addresses are cached for `ttl_s`, "no such host" for `negative_ttl_s`."""

    def __init__(
        self, lookup: Lookup = system_lookup, ttl_s: float = TTL_S, negative_ttl_s: float = NEGATIVE_TTL_S
    ) -> None:
        self._lookup = lookup
        self._ttl_s = ttl_s
        self._negative_ttl_s = negative_ttl_s
        self._lock = threading.Lock()
        self._cache: OrderedDict[str, tuple[float, Future[list[Address]]]] = OrderedDict()

    def addresses(self, host: str, timeout_s: float) -> list[Address]:
        """Return the host's addresses. Raises Rejection `dns_failure`, also after `timeout_s` without a response."""
        try:
            return self._future(host).result(timeout_s)
        except FutureTimeoutError as error:
            raise Rejection(Reason.DNS_FAILURE, "no answer in time") from error
        except socket.gaierror as error:
            raise Rejection(Reason.DNS_FAILURE, _gai_name(error)) from error
        except UnicodeError as error:
            raise Rejection(Reason.INVALID_URL, "invalid host name") from error
        except OSError as error:
            raise Rejection(Reason.DNS_FAILURE, f"errno {error.errno}") from error

    def _future(self, host: str) -> "Future[list[Address]]":
        now = time.monotonic()
        with self._lock:
            found = self._cache.get(host)
            if found is not None and found[0] > now:
                return found[1]
            future: Future[list[Address]] = Future()
            self._cache[host] = (float("inf"), future)
            self._cache.move_to_end(host)
            while len(self._cache) > MAX_HOSTS:
                self._cache.popitem(last=False)
        threading.Thread(target=self._resolve, args=(host, future), name="dns", daemon=True).start()
        return future

    def _resolve(self, host: str, future: "Future[list[Address]]") -> None:
        try:
            answer = self._lookup(host)
            ttl_s, error = self._ttl_s, None
        except BaseException as raised:
            no_such_host = isinstance(raised, socket.gaierror) and raised.errno != socket.EAI_AGAIN
            answer, ttl_s, error = [], self._negative_ttl_s if no_such_host else 0.0, raised
        with self._lock:
            if host in self._cache and self._cache[host][1] is future:
                self._cache[host] = (time.monotonic() + ttl_s, future)
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)


@functools.lru_cache(maxsize=1)
def shared_resolver() -> Resolver:
    """Return this process's resolver, whose cache serves all shards."""
    return Resolver()


def _gai_name(error: socket.gaierror) -> str:
    if error.errno == socket.EAI_AGAIN:
        return "the resolver did not answer (EAI_AGAIN)"
    if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
        return "no such host"
    return f"getaddrinfo error {error.errno}"
