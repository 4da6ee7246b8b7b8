"""An asyncio HTTP client for a dataset's sources: persistent connections, checked addresses, redirects, timeouts."""

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
"""Maximum number of idle connections, of all hosts. The least recently used is closed first."""
_DRAIN_S = 1.0
"""Maximum time for reading the rest of an unneeded body. After that another connection is cheaper."""


class AsyncClient:
    """Sends GET requests over persistent connections, at most `per_host` per origin.

    Every connection, also after a redirect, goes to an endpoint that the policy's guard allowed for that target. The
    client belongs to one event loop: use it with `async with`.
    """

    def __init__(self, policy: SourcePolicy) -> None:
        self.policy = policy
        self._guard = policy.guard()
        self._slots: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(policy.per_host))
        self._idle: dict[str, list[Connection]] = defaultdict(list)
        self._oldest: OrderedDict[Connection, str] = OrderedDict()
        self._open: set[Connection] = set()
        self._timeout_task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "AsyncClient":
        self._timeout_task = asyncio.create_task(self._close_timed_out_connections())
        return self

    async def __aexit__(self, *raised: object) -> None:
        if self._timeout_task is not None:
            self._timeout_task.cancel()
        for connection in self._open:
            connection.close()
        self._open.clear()

    @contextlib.asynccontextmanager
    async def get(
        self, url: str, conditions: Mapping[str, str] | None = None, bound_to: str = ""
    ) -> AsyncIterator[Response]:
        """Send a GET request and yield the response after redirects.

        `conditions` (If-None-Match, Range, If-Range) contain validators of one origin: they are sent to that origin,
        `bound_to`, and to no other. The connection is closed if a long body is not read to its end. Raises Rejection
        for URLs that the guard refuses and for malformed responses and redirects; OSError and EOFError for network
        errors.
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
                        self._close(connection)
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
                head = await connection.read_head()
                rate = RateWindow(policy.min_bytes_per_s, policy.timeout_s)
                return connection, Response(connection, target.url, origin, bool(conditions), head, rate)
            except TimeoutError:
                self._close(connection)
                raise
            except (OSError, EOFError):
                self._close(connection)
                if connection.fresh:
                    raise
                # The server may close an idle connection at any time: use the next one.
            except BaseException:
                self._close(connection)
                raise

    async def _connect(self, target: Target) -> Connection:
        policy = self.policy
        endpoints = await _run_in_thread(lambda: self._guard.endpoints(target, policy.timeout_s))
        try:
            async with asyncio.timeout(policy.timeout_s):
                reader, writer = await self._connect_first(target, endpoints)
        except TimeoutError as error:
            raise TimeoutError(f"no connection to {target.host} within {policy.timeout_s:g} s") from error
        connection = Connection(reader, writer)
        self._open.add(connection)
        return connection

    async def _connect_first(
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
            if response.has_short_remainder:
                async with asyncio.timeout(_DRAIN_S):
                    while await response.read(1 << 16):
                        pass
        except (OSError, EOFError, Rejection):
            pass
        finally:
            if response.reusable:
                self._keep(connection, response.origin)
            else:
                self._close(connection)

    def _keep(self, connection: Connection, origin: str) -> None:
        connection.fresh = False
        self._idle[origin].append(connection)
        self._oldest[connection] = origin
        if len(self._oldest) > MAX_IDLE:
            oldest, its_origin = self._oldest.popitem(last=False)
            self._idle[its_origin].remove(oldest)
            self._close(oldest)

    def _close(self, connection: Connection) -> None:
        connection.close()
        self._open.discard(connection)

    async def _close_timed_out_connections(self) -> None:
        """Close connections that exceed the timeout. One task for all replaces a timer for each read."""
        timeout_s = self.policy.timeout_s
        while True:
            await asyncio.sleep(min(timeout_s / 4, 1.0))
            latest = time.monotonic() - timeout_s
            for connection in list(self._open):
                if connection.waiting_since and connection.waiting_since < latest:
                    connection.timed_out = True
                    connection.close()


async def _run_in_thread(function: Callable[[], T]) -> T:
    """Run a blocking function (the system's resolver) in a thread. Cancellation does not wait for the thread."""
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
            outcome = function()
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
