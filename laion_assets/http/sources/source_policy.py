"""What fetching a dataset's sources may do: CSVs, listings, URL lists and published parquet over http(s)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from laion_assets.http.urls.guard import Guard
from laion_assets.http.urls.resolver import Resolver

MAX_REDIRECTS = 10
USER_AGENT = "laion-assets (+https://github.com/laion-assets/laion-assets)"


@dataclass(frozen=True)
class SourcePolicy:
    """Bounds and addresses of a source's requests; picklable. Times in seconds.

    `operator_urls` are URLs that the settings name: their hosts may be private, and on any port. Hosts that data names
    (redirects, listed URLs, links of listings) must be globally reachable, on one of `allowed_ports`, at every hop.
    `timeout_s` is the longest wait for a connection, a response's head and any next byte; a body that comes more slowly
    than `min_bytes_per_s` over such a time is given up.
    """

    resolve: Mapping[str, str] = field(default_factory=dict)
    operator_urls: tuple[str, ...] = ()
    blocked_networks: tuple[str, ...] = ()
    allowed_ports: tuple[int, ...] = (80, 443)
    timeout_s: float = 30.0
    min_bytes_per_s: int = 1_000
    per_host: int = 100
    retries: int = 5

    def guard(self, resolver: Resolver | None = None) -> Guard:
        """The guard of these addresses. Raises Rejection for an operator URL that is not one, SettingError."""
        return Guard(self.resolve, self.allowed_ports, resolver, self.blocked_networks, self.operator_urls)
