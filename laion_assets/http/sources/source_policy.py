"""The policy for a dataset's sources: CSVs, listings, URL lists and published parquet over http(s)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from laion_assets.http.urls.guard import Guard
from laion_assets.http.urls.resolver import Resolver

MAX_REDIRECTS = 10
USER_AGENT = "laion-assets (+https://github.com/laion-assets/laion-assets)"


@dataclass(frozen=True)
class SourcePolicy:
    """Limits and allowed addresses of a source's requests. Picklable. Times in seconds.

    `operator_urls` are URLs that the settings name: their hosts may be private, and on any port. Hosts that data names
    (redirects, listed URLs, links of listings) must be globally reachable or in `allow_networks`, on one of
    `allowed_ports`, at every hop.
    `timeout_s` limits the wait for a connection, for the response headers and for each next byte. A body is aborted if
    its average rate over such a time is below `min_bytes_per_s`.
    """

    resolve: Mapping[str, str] = field(default_factory=dict)
    operator_urls: tuple[str, ...] = ()
    blocked_networks: tuple[str, ...] = ()
    allow_networks: tuple[str, ...] = ()
    allowed_ports: tuple[int, ...] = (80, 443)
    timeout_s: float = 30.0
    min_bytes_per_s: int = 1_000
    per_host: int = 100
    retries: int = 5

    def guard(self, resolver: Resolver | None = None) -> Guard:
        """Create the address guard. Raises Rejection for an invalid operator URL, SettingError."""
        return Guard(
            self.resolve,
            self.allowed_ports,
            resolver,
            self.blocked_networks,
            self.operator_urls,
            self.allow_networks,
        )
