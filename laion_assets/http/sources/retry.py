"""Trying again after faults of the network that may pass."""

import asyncio
import errno
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from laion_assets.errors import SourceError
from laion_assets.http.messages.dates import retry_after_s
from laion_assets.http.sources.async_connection import Response
from laion_assets.reasons import Reason, Rejection

T = TypeVar("T")

FIRST_PAUSE_S = 0.25
MAX_PAUSE_S = 30.0
TRANSIENT_STATUSES = (408, 425, 429, 500, 502, 503, 504)
"""Answers of a server that may be others a little later."""
_PROGRESS_BYTES = 1 << 20
"""A try that brought so much counts as none: a large file over a poor line needs many."""
_OWN_SIDE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE, errno.ENFILE)
"""Faults that another try does not end: no room, no permission, no descriptors."""

_MALFORMED = {Reason.BAD_RESPONSE, Reason.BAD_ENCODING, Reason.SHORT_BODY}
"""A response that stays malformed costs one file, and its reason is counted."""
_MAY_PASS = {
    *_MALFORMED, Reason.DNS_FAILURE, Reason.NO_ROUTE, Reason.LOCAL_FAILURE, Reason.CONNECT_FAILURE, Reason.TLS_FAILURE,
    Reason.CONNECTION_RESET, Reason.DEADLINE,
}  # fmt: skip


class TransientError(Exception):
    """An answer that may be another one later; `pause_s` is how long the server asks to wait."""

    def __init__(self, message: str, pause_s: float = 0.0) -> None:
        super().__init__(message)
        self.pause_s = pause_s


async def with_retries(
    act: Callable[[], Awaitable[T]], what: str, retries: int, received: Callable[[], int] = lambda: 0
) -> T:
    """What `act` returns, tried `retries` further times after faults that may pass, with growing pauses.

    `received` gives the bytes that came so far: tries that bring a MiB and more are not counted. Raises SourceError
    naming `what` and the last fault, Rejection for what the server's own responses are to blame for (a malformed one
    is asked for again first). Other errors, SourceError among them, end it at once.
    """
    transaction, seen = 0, received()
    while True:
        try:
            return await act()
        except (TransientError, OSError, EOFError, Rejection) as error:
            if isinstance(error, OSError) and error.errno in _OWN_SIDE:
                raise SourceError(f"{what} could not be stored: {error}. Correct that and run it again.") from error
            if isinstance(error, Rejection) and error.reason not in _MAY_PASS:
                raise
            if received() - seen >= _PROGRESS_BYTES:
                transaction, seen = 0, received()
            if transaction == retries:
                if isinstance(error, Rejection) and error.reason in _MALFORMED:
                    raise
                reason = str(error) or type(error).__name__
                raise SourceError(f"{what} could not be fetched in {retries + 1} tries: {reason}.") from error
            asked = error.pause_s if isinstance(error, TransientError) else 0.0
            pause = max(FIRST_PAUSE_S * 2**transaction * random.uniform(0.5, 1.5), asked)
            await asyncio.sleep(min(pause, MAX_PAUSE_S))
            transaction += 1


def transient(response: Response) -> TransientError:
    """The error of a status that may be another one later, with the pause that the server asks for."""
    return TransientError(f"{response.status} {response.head.reason[:80]}", retry_after_s(response.head) or 0.0)


_HINTS = {
    Reason.BLOCKED_ADDRESS: "A host of your own network must be named in the settings: source, published or resolve.",
    Reason.BLOCKED_PORT: "Add the port to csv.allowed_ports, or name the host in resolve.",
}


def explain(rejection: Rejection) -> str:
    """A rejection's reason and detail in one sentence, with what the operator can do about it."""
    hint = _HINTS.get(rejection.reason)
    return f"{rejection}." if hint is None else f"{rejection}. {hint}"
