"""Images of queries: from strangers, so they are decoded in the decoder process and downloaded behind the guard."""

import io
from dataclasses import replace
from typing import TYPE_CHECKING

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.errors import QueryError

if TYPE_CHECKING:
    from PIL import Image

DOWNLOAD_S = 10.0
"""Time limit for downloading the image of a query, in seconds."""


def decode_query_image(dataset: Dataset, content: bytes, field: str = "image") -> "Image.Image":
    """Decode an image file in the sandboxed decoder process and resize it like the dataset's images, to RGB.

    The number of pixels is checked in the file's header. Raises QueryError if it is not an image of a supported format,
    has too many pixels, or crashes the decoder.
    """
    from PIL import Image

    from laion_assets.stages.image_shards.decoding.decoder_process import reencode

    # Never the query's own file: what is parsed here was written by the decoder process.
    settings = replace(dataset.images, skip_reencode=False, disable_all_reencoding=False)
    found = reencode(settings, content)
    if found.content is None:
        raise QueryError(f"The image cannot be used: {found.error_message}.", field, "invalid_image")
    return Image.open(io.BytesIO(found.content)).convert("RGB")


def query_policy(dataset: Dataset) -> FetchPolicy:
    """Return the policy for URLs that a client names: the strict defaults, without the dataset's `resolve`."""
    return FetchPolicy(
        max_body_bytes=dataset.search.max_image_bytes,
        deadline_s=DOWNLOAD_S,
        retries=0,
        blocked_networks=dataset.blocked_networks,
        user_agent=dataset.images.fetch.user_agent,
    )


def download_query_image(dataset: Dataset, url: str, field: str = "image_url") -> bytes:
    """Download the image of a query. Raises QueryError with the reason if it fails or the address is not public."""
    from laion_assets.http.fetch import shared_fetcher
    from laion_assets.reasons import Reason

    fetched = shared_fetcher(query_policy(dataset)).fetch(url)
    if fetched.reason is not Reason.SUCCESS:
        # Only the reason: details of the connection would tell a client about this machine's network.
        raise QueryError(f"The image URL cannot be used: {fetched.reason.value}.", field, "invalid_image_url")
    return fetched.body
