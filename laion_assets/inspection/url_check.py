"""Fetch a few URLs of a new dataset with its fetch policy, and say how to allow hosts that the guard refuses."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from laion_assets.dataset.dataset import Dataset
from laion_assets.http.fetch import Fetched, Fetcher
from laion_assets.http.urls.target import parse_target
from laion_assets.reasons import Reason, Rejection

CHECKED_URLS = 10


@dataclass(frozen=True)
class BlockedHost:
    """A host that the guard refuses: its port and one of its addresses, and why."""

    host: str
    address: str
    port: int
    why: str

    @property
    def endpoint(self) -> str:
        """The value for the setting `resolve`."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True)
class UrlCheck:
    """The outcome of the fetched URLs: (URL, reason, detail) each, and the hosts that are refused."""

    outcomes: tuple[tuple[str, Reason, str], ...]
    blocked: tuple[BlockedHost, ...]
    ports: tuple[int, ...]
    """Refused ports of public hosts."""

    @property
    def counts(self) -> Counter[str]:
        """Number of URLs by reason."""
        return Counter(reason.value for _, reason, _ in self.outcomes)


def check_urls(dataset: Dataset, urls: Sequence[str]) -> UrlCheck:
    """Fetch URLs in parallel under `images.fetch` and `resolve` of the dataset. Images are not decoded."""
    fetcher = Fetcher(dataset.fetch_policy)
    try:
        with ThreadPoolExecutor(max(len(urls), 1), thread_name_prefix="check") as pool:
            found = list(pool.map(fetcher.fetch, urls))
        hosts, ports = _find_blocked(fetcher, found)
    finally:
        fetcher.close()
    outcomes = tuple((fetched.url, fetched.reason, fetched.detail) for fetched in found)
    return UrlCheck(outcomes, tuple(hosts), tuple(sorted(ports)))


def _find_blocked(fetcher: Fetcher, found: Sequence[Fetched]) -> tuple[list[BlockedHost], set[int]]:
    hosts: dict[tuple[str, int], BlockedHost] = {}
    ports: set[int] = set()
    for fetched in found:
        if fetched.reason not in (Reason.BLOCKED_ADDRESS, Reason.BLOCKED_PORT):
            continue
        try:
            target = parse_target(fetched.final_url)
            verdicts = fetcher.guard.verdicts(target, fetcher.policy.connect_timeout_s)
        except Rejection:
            continue
        refused = [address for address, verdict in verdicts if not verdict.startswith("allowed")]
        if refused:
            hosts[target.host, target.port] = BlockedHost(target.host, refused[0], target.port, fetched.detail)
        else:
            ports.add(target.port)
    return list(hosts.values()), ports
