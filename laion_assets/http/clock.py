"""How much time one URL has left: to be answered, and to wait for others."""

import time
from dataclasses import dataclass

from laion_assets.reasons import Reason, Rejection


@dataclass
class Clock:
    """When a URL's time is over, on the monotonic clock, the longest silence before that, and its patience.

    Patience, in seconds, is for waits that the URL's own server is not to blame for (its host's turn, memory): they
    move the deadline, and are bounded together.
    """

    ends: float
    silence_s: float
    deadline_s: float
    patience_s: float = 0.0

    @classmethod
    def start(cls, deadline_s: float, silence_s: float, patience_s: float = 0.0) -> "Clock":
        """A clock that starts now."""
        return cls(time.monotonic() + deadline_s, silence_s, deadline_s, patience_s)

    def left(self) -> float:
        """Seconds until the deadline. Raises Rejection `deadline` when there are none."""
        left = self.ends - time.monotonic()
        if left <= 0:
            raise self.expired()
        return left

    def wait(self) -> float:
        """The timeout for the next operation on a socket. Raises Rejection `deadline`."""
        return min(self.left(), self.silence_s)

    def waited(self, seconds: float) -> None:
        """Take a wait off the patience, and move the deadline by it."""
        self.ends += seconds
        self.patience_s = max(0.0, self.patience_s - seconds)

    def expired(self) -> Rejection:
        """The rejection of a URL that took too long."""
        return Rejection(Reason.DEADLINE, f"no complete answer within {self.deadline_s:g} s")

    def timed_out(self) -> Rejection:
        """The rejection after a socket's timeout: the deadline, or too long a silence before it."""
        if time.monotonic() >= self.ends:
            return self.expired()
        return Rejection(Reason.DEADLINE, f"silence for {self.silence_s:g} s")
