"""What would become of one URL: the whole decision, without writing anything."""

import io
from typing import Any

from laion_assets.datasets import Dataset
from laion_assets.images.environment import quieten
from laion_assets.images.fetching.fetch import fetch
from laion_assets.images.fetching.policy import FetchPolicy
from laion_assets.images.reasons import Reason
from laion_assets.images.settings import ImageSettings


def decide(url: str, dataset: Dataset | None = None) -> dict[str, Any]:
    """Run one URL through exactly the path of a shard's rows, and say what became of it.

    With a dataset: by its image settings and `resolve`. Without: by the strict defaults, globally reachable addresses
    only. Sizes in pixels and bytes, seconds for the fetch. `status` is img2dataset's, `reason` a `Reason`.
    """
    images = dataset.images if dataset is not None else ImageSettings()
    fetched = fetch(url, FetchPolicy.of(images, dataset.resolve if dataset is not None else None))
    decision: dict[str, Any] = {
        "url": url,
        "status": fetched.reason.status,
        "reason": fetched.reason.value,
        "detail": fetched.detail,
        "final_url": fetched.final_url,
        "hops": [{"url": hop.url, "address": hop.address, "http_status": hop.status} for hop in fetched.hops],
        "http_status": fetched.status,
        "bytes": len(fetched.body),
        "original_width": None,
        "original_height": None,
        "width": None,
        "height": None,
        "seconds": fetched.seconds,
        "attempts": fetched.attempts,
    }
    if fetched.reason is not Reason.SUCCESS:
        return decision
    quieten()
    from laion_assets.images.resizer import GuardedResizer

    _, width, height, original_width, original_height, error = GuardedResizer(images)(io.BytesIO(fetched.body))
    decision |= {"original_width": original_width, "original_height": original_height, "width": width, "height": height}
    if error is not None:
        reason = Reason.of_message("failed_to_resize", error)
        decision |= {"status": reason.status, "reason": reason.value, "detail": error.partition(": ")[2]}
    return decision
