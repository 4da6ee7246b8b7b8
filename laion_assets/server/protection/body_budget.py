"""A memory budget for the bodies of all requests together."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from laion_assets.server.api.answers import ApiError

SMALL_BYTES = 65_536
"""Bodies up to this size, such as queries by text, are not counted: large bodies must not stop them."""


class BodyBudget:
    """ASGI middleware that refuses a body (429) if it and those of other requests have more than `max_bytes`.

    The limit of one body does not bound those of 1,000 connections.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._used = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = 0
        counted = 0

        async def receive_and_count() -> Message:
            nonlocal received, counted
            message = await receive()
            received += len(message.get("body", b""))
            if received > SMALL_BYTES:
                self._used += received - counted
                counted = received
                if self._used > self._max_bytes:
                    raise ApiError(
                        429, "too_many_requests", "Many large requests are in progress. Try again.", retry_after_s=1
                    )
            return message

        try:
            await self._app(scope, receive_and_count, send)
        finally:
            self._used -= counted
