"""Fetch one URL through the address guard, with redirects, retries and consent checks, within one deadline."""

import atexit
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.http.attempt import Attempt, FetchResources
from laion_assets.http.hop import Hop
from laion_assets.http.memory_budget import Reservation, return_large_blocks
from laion_assets.http.urls.target import parse_target
from laion_assets.reasons import Reason, Rejection

RETRY_PAUSE_S = 0.3
_MAX_SHARED = 4


@dataclass(frozen=True)
class Fetched:
    """The result of fetching a URL: its body where `reason` is `success`, else the reason of the failure.

    `wire_bytes` is the number of bytes received. `reserved_bytes` of the fetcher's memory budget are still reserved for
    the body: 0 unless the caller asked for it. `started` is a time of the monotonic clock.
    """

    url: str
    reason: Reason
    detail: str
    hops: tuple[Hop, ...]
    headers: tuple[tuple[str, str], ...]
    body: bytes
    wire_bytes: int
    attempts: int
    seconds: float
    reserved_bytes: int = 0
    started: float = 0.0

    @property
    def status(self) -> int | None:
        """The HTTP status of the last response, None if there was none."""
        return self.hops[-1].status if self.hops else None

    @property
    def final_url(self) -> str:
        """The URL of the last request, after redirects."""
        return self.hops[-1].url if self.hops else self.url


def fetch(url: str, policy: FetchPolicy | None = None) -> Fetched:
    """Fetch one URL under the policy, by default the strict one. Never raises for an error of the URL or its server."""
    fetcher = Fetcher(policy or FetchPolicy())
    try:
        return fetcher.fetch(url)
    finally:
        fetcher.close()


class Fetcher(FetchResources):
    """Fetches URLs under one policy. All threads that use it share its resources."""

    def close(self) -> None:
        """Close the idle connections. The fetcher still works, but no longer keeps connections."""
        self.pool.close()

    def wait_s(self, url: str) -> float:
        """Return for how many seconds to defer the URL, because its host backs off or has no free slot."""
        if not self.limiter.has_waits:
            return 0.0
        try:
            return self.limiter.wait_s(parse_target(url).host)
        except Rejection:
            return 0.0

    def fetch(self, url: str, keep_reservation: bool = False) -> Fetched:
        """Fetch one URL. Retries a retryable failure while tries and time are left.

        With `keep_reservation` a successful result keeps its `reserved_bytes`. The caller returns them to the budget
        (`budget.release`) when it no longer needs the body.
        """
        policy = self.policy
        clock = self.clock()
        started = time.monotonic()
        attempts = wire_bytes = 0
        while True:
            attempts += 1
            reservation = Reservation(self.budget, clock)
            attempt = Attempt(self, clock, reservation)
            body, retry_after_s = b"", None
            try:
                body = attempt.run(url)
                reason, detail = Reason.SUCCESS, ""
            except Rejection as rejection:
                reason, detail, retry_after_s = rejection.reason, rejection.detail, rejection.retry_after_s
            except Exception as error:  # a defect costs one row, never the worker
                reason, detail = Reason.INTERNAL, type(error).__name__
            reservation.shrink(len(body) if keep_reservation else 0)
            wire_bytes += attempt.wire_bytes
            if not reason.is_retryable or reason is Reason.HOST_BUSY or attempts > policy.retries:
                break
            if retry_after_s is not None:  # the host backs off; the next attempt waits for it
                if retry_after_s > min(policy.max_retry_after_s, clock.queue_timeout_s):
                    break
            elif clock.ends_at - time.monotonic() <= RETRY_PAUSE_S:
                break
            else:
                time.sleep(RETRY_PAUSE_S)
        return Fetched(
            url=url,
            reason=reason,
            detail=detail,
            hops=tuple(attempt.hops),
            headers=attempt.head.headers if attempt.head else (),
            body=body,
            wire_bytes=wire_bytes,
            attempts=attempts,
            seconds=round(time.monotonic() - started, 3),
            reserved_bytes=reservation.reserved_bytes,
            started=started,
        )


_shared: OrderedDict[tuple[object, ...], Fetcher] = OrderedDict()
_shared_lock = threading.Lock()


def shared_fetcher(policy: FetchPolicy) -> Fetcher:
    """Return this process's fetcher for the policy. Its connections and caches serve all shards."""
    with _shared_lock:
        fetcher = _shared.get(policy.key)
        if fetcher is None:
            return_large_blocks()
            fetcher = _shared[policy.key] = Fetcher(policy)
        _shared.move_to_end(policy.key)
        while len(_shared) > _MAX_SHARED:
            _shared.popitem(last=False)[1].close()
        return fetcher


@atexit.register
def _close_shared() -> None:
    for fetcher in _shared.values():
        fetcher.close()
