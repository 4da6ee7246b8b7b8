"""The network policy of a dataset's sources, from its settings."""

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SourceError
from laion_assets.http.sources.source_policy import SourcePolicy
from laion_assets.http.urls.places import is_http
from laion_assets.http.urls.target import parse_target
from laion_assets.reasons import Rejection

LIST_PREFIX = "list:"


def source_policy(dataset: Dataset) -> SourcePolicy:
    """Return the network policy of a dataset's sources. Hosts in `source` and `published` are trusted.

    Raises SourceError naming the setting with an invalid URL.
    """
    settings = dataset.csv
    named = dict.fromkeys(dataset.published, "published") | {dataset.source.removeprefix(LIST_PREFIX): "source"}
    urls = tuple(place for place in named if is_http(place))
    for url in urls:
        try:
            parse_target(url)
        except Rejection as rejection:
            raise SourceError(
                f"Invalid URL {url} in the setting {named[url]}: expected an http or https URL with a host "
                f"({rejection.detail})."
            ) from rejection
    return SourcePolicy(
        resolve=dict(dataset.resolve),
        operator_urls=urls,
        blocked_networks=dataset.blocked_networks,
        allow_networks=dataset.allow_networks,
        allowed_ports=settings.allowed_ports,
        timeout_s=settings.timeout_s,
        min_bytes_per_s=settings.min_bytes_per_s,
        per_host=settings.connections_per_host,
        retries=settings.retries,
    )
