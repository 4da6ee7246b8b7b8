"""The HTTP connections of the server: time limits for their heads, and a maximum number of them.

uvicorn closes a connection that is idle after an answer, but waits without limit for the first request, and for the
rest of a request's head.
"""

import asyncio
import json
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 65_536


class LimitedConnection(HttpToolsProtocol):
    """A connection that is closed if a request's head does not arrive within `idle_s`, or is too large.

    More connections than `max_connections` are closed with 503 before they are read. A connection whose client reads no
    more of its answers for `stall_s` is aborted.
    """

    idle_s: ClassVar[float] = 5.0
    stall_s: ClassVar[float] = 20.0
    max_connections: ClassVar[int] = 1_000
    _stall: asyncio.TimerHandle | None = None
    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit of the first head."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._refuse(503, "too_many_connections", "Too many connections. Try again in a moment.")
        else:
            self._start_deadline()

    def data_received(self, data: bytes) -> None:
        """Parse data of a request; refuse a head that is too large."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, "headers_too_large", f"The request head is larger than {MAX_HEAD_BYTES:,} bytes.")

    def on_message_begin(self) -> None:
        """Start the time limit of a head."""
        super().on_message_begin()
        self._in_head = True
        self._start_deadline()

    def on_headers_complete(self) -> None:
        """End the time limit: the deadline of the request takes over."""
        self._in_head = False
        self._head_bytes = 0
        self._stop_deadline()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """Start the time limit of a client that does not read."""
        super().pause_writing()
        self._stall = self.loop.call_later(self.stall_s, self._abort)

    def resume_writing(self) -> None:
        """End this time limit: the client reads."""
        self._stop_stall()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; abort it if its client has not read the answer."""
        if self.transport.get_write_buffer_size():
            self._abort()
        super().timeout_keep_alive_handler()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_deadline()
        self._stop_stall()
        super().connection_lost(exc)

    def _start_deadline(self) -> None:
        self._stop_deadline()
        self._deadline = self.loop.call_later(self.idle_s, self._close_idle)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _abort(self) -> None:
        self.pipeline.clear()
        if self.cycle is not None:
            self.cycle.disconnected = True  # what it still sends is dropped
        self.transport.abort()

    def _stop_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _close_idle(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"error": {"code": code, "message": message}}).encode()
        head = (
            f"HTTP/1.1 {status} Refused\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            "retry-after: 1\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def limited_connections(idle_s: float, stall_s: float, max_connections: int) -> type[Any]:
    """Return the connection class with these limits."""
    limits = {"idle_s": idle_s, "stall_s": stall_s, "max_connections": max_connections}
    return type("Connection", (LimitedConnection,), limits)
