"""The deadline of a request that is answered in parts."""

import asyncio
from typing import Any

from laion_assets.server.protection.limits import RequestLimits

_SCOPE = {"type": "http", "headers": [(b"content-length", b"0")]}


def _answer(pauses_s: list[float]) -> list[dict[str, Any]]:
    """Run an application that pauses before each of its parts, under a deadline of 0.4 s."""
    sent: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        for number, pause in enumerate(pauses_s):
            await asyncio.sleep(pause)
            if not number:
                await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x", "more_body": number < len(pauses_s) - 1})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    asyncio.run(RequestLimits(application, 1_000, 0.4)(_SCOPE, receive, send))
    return sent


def test_a_long_answer_may_take_the_deadline_for_each_part() -> None:
    assert sum(message.get("body") == b"x" for message in _answer([0.2] * 5)) == 5


def test_a_late_first_part_is_an_error_and_a_late_next_one_ends_the_answer() -> None:
    assert _answer([0.8])[0]["status"] == 503
    assert [message.get("body") for message in _answer([0.1, 0.8, 0.1])] == [None, b"x"]
