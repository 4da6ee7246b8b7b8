"""One try at one URL through urllib, with its redirects."""

import time
from dataclasses import dataclass, field

from laion_assets.http.clock import Clock
from laion_assets.http.hop import Hop


@dataclass
class Visit:
    """The clock of one try, shared by its redirects, and what happened. Times are of the monotonic clock, in seconds.

    `ended` is the time of the last byte or of the failure.
    """

    url: str
    clock: Clock
    started: float = field(default_factory=time.monotonic)
    ended: float = field(default_factory=time.monotonic)
    hops: list[Hop] = field(default_factory=list)
    wire_bytes: int = 0
    body_bytes: int = 0
