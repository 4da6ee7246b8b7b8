"""A dry run of one URL, with the web site of the sample where a dataset needs it."""

import contextlib
from typing import TYPE_CHECKING

from laion_assets.api.datasets import load_dataset
from laion_assets.dataset.dataset import Dataset

if TYPE_CHECKING:
    from laion_assets.stages.image_shards.preview import Preview


def preview_url(url: str, dataset: Dataset | str | None = None) -> "Preview":
    """Fetch, check and resize the image at one URL, as for a shard. Nothing is written.

    With a dataset its image settings and `resolve` apply; for the embedded sample its web site is started. Without, the
    strict defaults apply: http and https, globally reachable addresses, ports 80 and 443. A refused or failed URL is an
    outcome with a reason, not an error.
    """
    from laion_assets.stages.image_shards import preview

    if dataset is None:
        return preview.preview_url(url)
    loaded = load_dataset(dataset)
    with contextlib.ExitStack() as stack:
        if loaded.uses_sample_site:
            from laion_assets.sample.running import running_site

            loaded = loaded.with_resolve(stack.enter_context(running_site()).resolve)
        return preview.preview_url(url, loaded)
