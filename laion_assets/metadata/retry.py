"""Trying again after faults of the network that may pass."""

import asyncio
import errno
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import TypeVar

from laion_assets.errors import SourceError

T = TypeVar("T")

FIRST_PAUSE_S = 0.25
MAX_PAUSE_S = 30.0
TRANSIENT_STATUSES = (408, 425, 429, 500, 502, 503, 504)
"""Answers of a server that may be others a little later."""
_PROGRESS_BYTES = 1 << 20
"""A try that brought so much counts as none: a large file over a poor line needs many."""
_OWN_SIDE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE, errno.ENFILE)
"""Faults that another try does not mend: no room, no permission, no descriptors."""


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
    naming `what` and the last fault. Other errors, SourceError among them, end it at once.
    """
    attempt, seen = 0, received()
    while True:
        try:
            return await act()
        except (TransientError, OSError, EOFError) as error:
            if isinstance(error, OSError) and error.errno in _OWN_SIDE:
                raise SourceError(f"{what} could not be stored: {error}. Mend that and run it again.") from error
            if received() - seen >= _PROGRESS_BYTES:
                attempt, seen = 0, received()
            if attempt == retries:
                reason = str(error) or type(error).__name__
                raise SourceError(f"{what} could not be fetched in {retries + 1} tries: {reason}.") from error
            asked = error.pause_s if isinstance(error, TransientError) else 0.0
            pause = max(FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1.5), asked)
            await asyncio.sleep(min(pause, MAX_PAUSE_S))
            attempt += 1


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds that Retry-After asks for, in either form; header names in lower case."""
    value = headers.get("retry-after", "")
    if value.isdigit():
        return float(value)
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return 0.0
