"""Trying again after faults of the network that may pass."""

import http.client
import random
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import TypeVar

from laion_assets.errors import SourceError

T = TypeVar("T")

FIRST_PAUSE_S = 0.25
MAX_PAUSE_S = 30.0
TRANSIENT_STATUSES = (408, 425, 429, 500, 502, 503, 504)
"""Answers of a server that may be others a little later."""


class TransientError(Exception):
    """An answer that may be another one later; `pause_s` is how long the server asks to wait."""

    def __init__(self, message: str, pause_s: float = 0.0) -> None:
        super().__init__(message)
        self.pause_s = pause_s


def with_retries(act: Callable[[], T], what: str, retries: int) -> T:
    """What `act` returns, tried `retries` further times after faults that may pass, with growing pauses.

    Raises SourceError naming `what` and the last fault. Other errors, SourceError among them, end it at once.
    """
    for attempt in range(retries + 1):
        try:
            return act()
        except (TransientError, OSError, http.client.HTTPException) as error:
            if attempt == retries:
                reason = str(error) or type(error).__name__
                raise SourceError(f"{what} could not be fetched in {retries + 1} tries: {reason}.") from error
            asked = error.pause_s if isinstance(error, TransientError) else 0.0
            pause = max(FIRST_PAUSE_S * 2**attempt * random.uniform(0.5, 1.5), asked)
            time.sleep(min(pause, MAX_PAUSE_S))
    raise AssertionError("unreachable")


def retry_after_s(response: http.client.HTTPResponse) -> float:
    """Seconds that Retry-After asks for, in either form."""
    value = response.headers.get("Retry-After", "")
    if value.isdigit():
        return float(value)
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return 0.0
