"""The likely fix if `image_shards` kept too few images."""

from collections import Counter

from laion_assets.dataset.dataset import Dataset
from laion_assets.http.urls.remedies import describe_remedy


def advise(dataset: Dataset, reasons: Counter[str]) -> str:
    """Return how to allow what the address guard refused, if that is the most frequent reason; else an empty text."""
    (reason, _), *_ = reasons.most_common(1) or [("", 0)]
    return describe_remedy(reason, dataset.name)
