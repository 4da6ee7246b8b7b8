"""Limits of a request: the size of its body, and the time from its first byte to its answer."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from laion_assets.server.api.answers import ApiError, error_response

OVERHEAD_BYTES = 1_000_000
"""Bytes that a body may have besides its images."""


class RequestLimits:
    """ASGI middleware that refuses large bodies (413), slow bodies (408) and slow answers (503).

    An answer that is sent in parts may take this time for each part.

    The rest of a refused body is not read: the connection is closed.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, deadline_s: float) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._deadline_s = deadline_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(receive, self._max_body_bytes)
        started = False
        deadline = asyncio.timeout(None)

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start" and not body.complete:
                message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            await send(message)
            if message.get("more_body"):  # a file in parts: the limit is for each of them
                deadline.reschedule(asyncio.get_running_loop().time() + self._deadline_s)

        error = body.check_announced(scope)
        try:
            if error is None:
                async with asyncio.timeout(self._deadline_s) as deadline:
                    await self._app(scope, body.receive, send_and_note)
                return
        except TimeoutError:
            error = self._timeout_error(body)
        except BodyTooLargeError:
            error = body.too_large()
        if not started:  # else the connection ends within the answer, which tells the client
            await error_response(error)(scope, receive, send_and_note)

    def _timeout_error(self, body: "_Body") -> ApiError:
        if not body.complete:
            return ApiError(408, "body_timeout", f"The body did not arrive within {self._deadline_s:g} s.")
        return ApiError(
            503, "deadline", f"The search took longer than {self._deadline_s:g} s. Try again.", retry_after_s=5
        )


class BodyTooLargeError(Exception):
    """More bytes arrived than a body may have."""


class _Body:
    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._bytes = 0
        self.complete = False

    def check_announced(self, scope: Scope) -> ApiError | None:
        """Return the error for a body that is announced as too large."""
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        self.complete = length == b"0" and not any(name == b"transfer-encoding" for name, _ in scope["headers"])
        return self.too_large() if length.isdigit() and int(length[:20]) > self._limit else None

    def too_large(self) -> ApiError:
        return ApiError(413, "body_too_large", f"The body is larger than {self._limit:,} bytes.")

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            if self._bytes > self._limit:
                raise BodyTooLargeError
            self.complete = self.complete or not message.get("more_body", False)
        return message
