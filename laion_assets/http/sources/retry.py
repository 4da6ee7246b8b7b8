"""Retries after transient network errors."""

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
"""Statuses that are retried."""
_PROGRESS_BYTES = 1 << 20
"""A try that received so many bytes is not counted: a large file over an unstable connection needs many tries."""
_LOCAL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE, errno.ENFILE)
"""Local errors that a retry does not fix: no space, no permission, no file descriptors."""

_MALFORMED = {Reason.BAD_RESPONSE, Reason.BAD_ENCODING, Reason.SHORT_BODY}
"""Reasons of one file only: if they persist after the retries, the file is left out and counted."""
_TRANSIENT = {
    *_MALFORMED, Reason.DNS_FAILURE, Reason.NO_ROUTE, Reason.LOCAL_FAILURE, Reason.CONNECT_FAILURE, Reason.TLS_FAILURE,
    Reason.CONNECTION_RESET, Reason.DEADLINE,
}  # fmt: skip


class TransientError(Exception):
    """An error that a retry may fix. `pause_s` is the delay that the server requests (Retry-After), in seconds."""

    def __init__(self, message: str, pause_s: float = 0.0) -> None:
        super().__init__(message)
        self.pause_s = pause_s


async def with_retries(
    act: Callable[[], Awaitable[T]], what: str, retries: int, received: Callable[[], int] = lambda: 0
) -> T:
    """Call `act` until it returns, with at most `retries` retries after transient errors and exponential backoff.

    `received` returns the bytes received so far: tries that receive 1 MiB or more are not counted. Raises SourceError
    naming `what` and the last error; Rejection for a response that must be refused, after the retries if it was
    malformed. Other errors, SourceError included, are raised without a retry.
    """
    tries, seen = 0, received()
    while True:
        try:
            return await act()
        except (TransientError, OSError, EOFError, Rejection) as error:
            if isinstance(error, OSError) and error.errno in _LOCAL_ERRORS:
                raise SourceError(f"Failed to store {what}: {error}. Fix the disk or limit, then run again.") from error
            if isinstance(error, Rejection) and error.reason not in _TRANSIENT:
                raise
            if received() - seen >= _PROGRESS_BYTES:
                tries, seen = 0, received()
            if tries == retries:
                if isinstance(error, Rejection) and error.reason in _MALFORMED:
                    raise
                reason = str(error) or type(error).__name__
                raise SourceError(f"Failed to fetch {what} in {retries + 1} tries: {reason}.") from error
            requested = error.pause_s if isinstance(error, TransientError) else 0.0
            pause = max(FIRST_PAUSE_S * 2**tries * random.uniform(0.5, 1.5), requested)
            await asyncio.sleep(min(pause, MAX_PAUSE_S))
            tries += 1


def transient_error(response: Response) -> TransientError:
    """Return the error for a retried status, with the delay that the server requests."""
    return TransientError(f"{response.status} {response.head.reason[:80]}", retry_after_s(response.head) or 0.0)


_HINTS = {
    Reason.BLOCKED_ADDRESS: (
        "To allow a host of your own network, name it in the setting source, published or resolve, or its network in "
        "allow_networks."
    ),
    Reason.BLOCKED_PORT: "Add the port to csv.allowed_ports, or name the host in the setting resolve.",
}


def explain(rejection: Rejection) -> str:
    """Format a rejection as a sentence, with the setting that would allow it."""
    hint = _HINTS.get(rejection.reason)
    return f"{rejection}." if hint is None else f"{rejection}. {hint}"
