"""HTTP for a dataset's sources over one event loop: kept connections, checked addresses, redirects, bounded waits."""

import asyncio
import contextlib
import ssl
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeVar, cast

from laion_assets.http.messages.request import request_bytes
from laion_assets.http.response_policy import REDIRECTS
from laion_assets.http.sources.async_connection import READ_AHEAD_BYTES, Connection, RateWindow, Response
from laion_assets.http.sources.source_policy import MAX_REDIRECTS, USER_AGENT, SourcePolicy
from laion_assets.http.tls import tls_context
from laion_assets.http.urls.host_overrides import Endpoint
from laion_assets.http.urls.target import Target, follow_source, parse_target
from laion_assets.reasons import Reason, Rejection

T = TypeVar("T")

MAX_IDLE = 512
"""Connections that wait for their next request, of all hosts; the least recently used is closed first."""
_DRAIN_S = 1.0
"""Longest wait for the rest of a short body that nobody wants; another connection is cheaper after that."""


class AsyncClient:
    """GET requests over kept connections, at most `per_host` to an origin.

    Every connection, of every hop, goes to an endpoint that the policy's guard allowed for this very target. Belongs to
    one event loop: use it with `async with`.
    """

    def __init__(self, policy: SourcePolicy) -> None:
        self.policy = policy
        self._guard = policy.guard()
        self._slots: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(policy.per_host))
        self._idle: dict[str, list[Connection]] = defaultdict(list)
        self._oldest: OrderedDict[Connection, str] = OrderedDict()
        self._open: set[Connection] = set()
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "AsyncClient":
        self._watch = asyncio.create_task(self._end_silent_connections())
        return self

    async def __aexit__(self, *raised: object) -> None:
        if self._watch is not None:
            self._watch.cancel()
        for connection in self._open:
            connection.close()
        self._open.clear()

    @contextlib.asynccontextmanager
    async def get(
        self, url: str, conditions: Mapping[str, str] | None = None, bound_to: str = ""
    ) -> AsyncIterator[Response]:
        """The response to a GET, after redirects.

        `conditions` (If-None-Match, Range, If-Range) hold what one origin said of its file: they are sent to that
        origin, `bound_to`, and to no other. A long body that is not read to its end costs the connection. Raises
        Rejection for what the guard refuses and for malformed responses and redirects; OSError and EOFError as the
        network fails.
        """
        target = parse_target(url)
        for _ in range(MAX_REDIRECTS + 1):
            origin = target.origin
            conditional = bool(conditions) and origin == bound_to
            async with self._slots[origin]:
                connection, response = await self._request(target, (conditions or {}) if conditional else {})
                try:
                    head = response.head
                    location = head.get("location") if head.status in REDIRECTS else None
                    if location is None:
                        yield response
                        return
                except BaseException:
                    if not response.reusable:
                        self._end(connection)
                    raise
                finally:
                    if connection in self._open:
                        if response.reusable:
                            self._keep(connection, response.origin)
                        else:
                            await self._drain(connection, response)
            target = follow_source(target, location)
        raise Rejection(Reason.TOO_MANY_REDIRECTS, f"more than {MAX_REDIRECTS} redirects")

    async def _request(self, target: Target, conditions: Mapping[str, str]) -> tuple[Connection, Response]:
        request = request_bytes(target, {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **conditions})
        policy, origin = self.policy, target.origin
        while True:
            connection = self._take_idle(origin) or await self._connect(target)
            try:
                connection.writer.write(request)
                head = await connection.head()
                rate = RateWindow(policy.min_bytes_per_s, policy.timeout_s)
                return connection, Response(connection, target.url, origin, bool(conditions), head, rate)
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

    async def _connect(self, target: Target) -> Connection:
        policy = self.policy
        endpoints = await _beside(lambda: self._guard.endpoints(target, policy.timeout_s))
        try:
            async with asyncio.timeout(policy.timeout_s):
                reader, writer = await self._first_to_answer(target, endpoints)
        except TimeoutError as error:
            raise TimeoutError(f"no connection to {target.host} within {policy.timeout_s:g} s") from error
        connection = Connection(reader, writer)
        self._open.add(connection)
        return connection

    async def _first_to_answer(
        self, target: Target, endpoints: list[Endpoint]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tls = tls_context(None) if target.scheme == "https" else None
        name = target.host.removesuffix(".") if tls is not None else None
        for endpoint in endpoints[:-1]:
            with contextlib.suppress(OSError):
                return await _open(endpoint, tls, name, self.policy.timeout_s / len(endpoints))
        return await _open(endpoints[-1], tls, name, None)

    def _take_idle(self, origin: str) -> Connection | None:
        idle = self._idle.get(origin)
        if not idle:
            return None
        connection = idle.pop()
        del self._oldest[connection]
        return connection

    async def _drain(self, connection: Connection, response: Response) -> None:
        """Read the rest of a short body, so that the connection can be used again; end the connection otherwise."""
        try:
            if response.rest_is_short:
                async with asyncio.timeout(_DRAIN_S):
                    while await response.read(1 << 16):
                        pass
        except (OSError, EOFError, Rejection):
            pass
        finally:
            if response.reusable:
                self._keep(connection, response.origin)
            else:
                self._end(connection)

    def _keep(self, connection: Connection, origin: str) -> None:
        connection.fresh = False
        self._idle[origin].append(connection)
        self._oldest[connection] = origin
        if len(self._oldest) > MAX_IDLE:
            oldest, its_origin = self._oldest.popitem(last=False)
            self._idle[its_origin].remove(oldest)
            self._end(oldest)

    def _end(self, connection: Connection) -> None:
        connection.close()
        self._open.discard(connection)

    async def _end_silent_connections(self) -> None:
        """One watch for all instead of a timer for each read."""
        timeout_s = self.policy.timeout_s
        while True:
            await asyncio.sleep(min(timeout_s / 4, 1.0))
            latest = time.monotonic() - timeout_s
            for connection in list(self._open):
                if connection.waiting_since and connection.waiting_since < latest:
                    connection.silent = True
                    connection.close()


async def _beside(act: Callable[[], T]) -> T:
    """What a blocking call (the system's resolver) returns. When cancelled, nobody waits for it any more."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def finish(outcome: T | None, error: BaseException | None) -> None:
        if error is not None and not done.done():
            done.set_exception(error)
        elif not done.done():
            done.set_result(cast(T, outcome))

    def work() -> None:
        outcome: T | None = None
        failure: BaseException | None = None
        try:
            outcome = act()
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed by now
            loop.call_soon_threadsafe(finish, outcome, failure)

    threading.Thread(target=work, name="guard", daemon=True).start()
    return await done


async def _open(
    endpoint: Endpoint, tls: ssl.SSLContext | None, name: str | None, timeout_s: float | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(timeout_s):
        return await asyncio.open_connection(
            str(endpoint.address), endpoint.port, limit=READ_AHEAD_BYTES, ssl=tls, server_hostname=name
        )
