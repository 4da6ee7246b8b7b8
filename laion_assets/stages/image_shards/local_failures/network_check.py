"""Ask a few URLs whether the network of this machine works now, past every cache and kept connection."""

from collections.abc import Callable, Sequence

from laion_assets.dataset.dataset import Dataset
from laion_assets.http.fetch import Fetched, Fetcher, shared_fetcher
from laion_assets.http.fetch_queue import FetchQueue
from laion_assets.http.policy import FetchPolicy
from laion_assets.http.urls.guard import Guard
from laion_assets.http.urls.resolver import Resolver
from laion_assets.reasons import Reason

Ask = Callable[[Sequence[str]], dict[str, Reason]]
"""Fetches URLs at once and gives the reason of each; those after the first answer of a site itself may be left out."""
_LONGEST_PAUSE_S = 1.0
_IMAGE_STARTS = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"RIFF", b"BM")
"""First bytes of JPEG, PNG, GIF, WebP and BMP. Nothing more of an image is read outside of the decoder's process."""


def asker(dataset: Dataset) -> Ask:
    """Fetches by the dataset's image settings and `resolve`, with a DNS cache and connections of its own.

    A URL whose host asked for a pause is left out.
    """
    policy = FetchPolicy.of(dataset.images, dataset.resolve)

    def ask(urls: Sequence[str]) -> dict[str, Reason]:
        shared = shared_fetcher(policy)
        urls = [url for url in urls if shared.wait_s(url) <= _LONGEST_PAUSE_S]
        found: dict[str, Reason] = {}
        if not urls:
            return found
        fetcher = Fetcher(policy, Guard(policy.resolve, policy.allowed_ports, Resolver()))
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

    return ask


def _reason(fetched: Fetched) -> Reason:
    """As in a shard: a page in the place of an image is none."""
    if fetched.reason is Reason.SUCCESS and not fetched.body.startswith(_IMAGE_STARTS):
        return Reason.NOT_AN_IMAGE
    return fetched.reason
