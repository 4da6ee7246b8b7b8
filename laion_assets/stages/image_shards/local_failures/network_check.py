"""Check whether this machine's network works now, by fetching a few URLs without caches and kept connections."""

from collections.abc import Callable, Sequence

from laion_assets.dataset.dataset import Dataset
from laion_assets.http.fetch import Fetched, Fetcher, shared_fetcher
from laion_assets.http.fetch_queue import FetchQueue
from laion_assets.http.urls.guard import Guard
from laion_assets.http.urls.resolver import Resolver
from laion_assets.reasons import Reason

Probe = Callable[[Sequence[str]], dict[str, Reason]]
"""Fetches URLs in parallel and returns the reason of each. It may stop at the first response from a site itself."""
_LONGEST_PAUSE_S = 1.0
_IMAGE_STARTS = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"RIFF", b"BM")
"""First bytes of JPEG, PNG, GIF, WebP and BMP. Only the decoder process reads more of an image."""


def network_probe(dataset: Dataset) -> Probe:
    """Return a probe with the dataset's fetch policy, and with its own DNS cache and connections.

    It leaves out URLs whose host has sent a Retry-After.
    """
    policy = dataset.fetch_policy

    def probe(urls: Sequence[str]) -> dict[str, Reason]:
        shared = shared_fetcher(policy)
        urls = [url for url in urls if shared.wait_s(url) <= _LONGEST_PAUSE_S]
        found: dict[str, Reason] = {}
        if not urls:
            return found
        fetcher = Fetcher(policy, Guard.of(policy, Resolver()))
        try:
            with FetchQueue(fetcher, urls, min(len(urls), dataset.images.threads)) as queue:
                while len(found) < len(urls):
                    answer = queue.take(wait=True)
                    if answer is None:
                        continue
                    found[urls[answer[0]]] = reason = _reason(answer[1])
                    queue.release(answer[1])
                    if reason.shows_site:
                        break
        finally:
            fetcher.close()
        return found

    return probe


def _reason(fetched: Fetched) -> Reason:
    """Return the reason as in a shard: a response that is not an image fails."""
    if fetched.reason is Reason.SUCCESS and not fetched.body.startswith(_IMAGE_STARTS):
        return Reason.NOT_AN_IMAGE
    return fetched.reason
