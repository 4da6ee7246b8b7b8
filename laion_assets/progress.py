"""Progress of long work: a log line every few seconds, with the rate and the time left."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

_MIN_ELAPSED_S = 0.1
"""No rate is logged before this time: it would be meaningless."""


@dataclass
class Progress:
    """Count finished work and log a line at most every `every_s` seconds.

    `log` is any function that takes a line. `noun` names the unit ("shards"). `rate_noun` names a finer unit for the
    rate ("images"), counted in `fine`. The time left is logged as soon as a unit is done.
    """

    log: Callable[[str], None]
    noun: str
    total: int
    rate_noun: str = ""
    every_s: float = 5.0
    done: int = 0
    fine: int = 0
    _started: float = field(default_factory=time.monotonic)
    _last: float = 0.0

    def add(self, done: int = 1, fine: int = 0, note: str = "") -> None:
        """Count `done` more units and `fine` more of the finer ones, and log a line if it is due."""
        self.done += done
        self.fine += fine
        now = time.monotonic()
        if now - self._last >= self.every_s or self.done >= self.total:
            self._last = now
            self.log(self.line(note))

    def line(self, note: str = "") -> str:
        """Return the current progress line."""
        elapsed = max(time.monotonic() - self._started, 1e-9)
        percent = 100 * self.done / self.total if self.total else 100.0
        parts = [f"{self.done:,}/{self.total:,} {self.noun} ({percent:.0f} %)"]
        count, noun = (self.fine, self.rate_noun) if self.rate_noun else (self.done, self.noun)
        if count and elapsed >= _MIN_ELAPSED_S:
            rate = count / elapsed
            parts.append(f"{rate:,.0f} {noun}/s" if rate >= 10 else f"{rate:.1f} {noun}/s")
        if self.done < self.total and self.done:
            parts.append(f"{duration((self.total - self.done) * elapsed / self.done)} left")
        if self.done >= self.total:
            parts.append(f"took {duration(elapsed)}")
        return ", ".join([*parts, note] if note else parts)


def duration(seconds: float) -> str:
    """Format a duration: `48 s`, `3 min 20 s`, `2 h 05 min`, `3 d 4 h`."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3_600} h {whole % 3_600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3_600} h"
