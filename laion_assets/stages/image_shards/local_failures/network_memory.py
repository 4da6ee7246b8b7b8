"""A process's memory of its earlier shards: URLs that worked, and the share of failing sites."""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import ShardNumber
from laion_assets.errors import IntegrityError
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.image_shards.local_failures.failing_sites import mean_share
from laion_assets.store.manifest import read_manifest
from laion_assets.store.store import Store

DETAIL = "failing_sites"
"""Name of the manifest detail `[share, sites]`."""
_URLS, _SHARES, _NEIGHBOURS = 64, 100, 16
_MAX_DATASETS = 8


@dataclass
class NetworkMemory:
    """`urls` that worked, by (scheme, site), the latest last. `shares` of the latest shards, as (share, sites)."""

    urls: OrderedDict[tuple[str, str], str] = field(default_factory=OrderedDict)
    shares: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_SHARES))

    def add_working_url(self, scheme: str, site: str, url: str) -> None:
        """Remember a URL whose image was fetched."""
        self.urls[scheme, site] = url
        self.urls.move_to_end((scheme, site))
        if len(self.urls) > _URLS:
            self.urls.popitem(last=False)

    def working_urls(self, scheme: str, count: int) -> list[str]:
        """Return the latest `count` URLs of this scheme that worked, each of a different site."""
        return [url for (of, _), url in reversed(self.urls.items()) if of == scheme][:count]

    @property
    def share(self) -> float | None:
        """The mean share of failing sites, None if too few sites are known."""
        return mean_share(list(self.shares))


_memories: OrderedDict[tuple[str, str], NetworkMemory] = OrderedDict()


def network_memory(dataset: Dataset, shard: ShardNumber) -> NetworkMemory:
    """Return the process's memory for a dataset. A new one starts with the shares of committed neighbouring shards."""
    key = (dataset.root, dataset.folder)
    if key not in _memories:
        _memories[key] = NetworkMemory()
        _memories[key].shares.extend(_read_committed_shares(dataset, shard))
        if len(_memories) > _MAX_DATASETS:
            _memories.popitem(last=False)
    return _memories[key]


def _read_committed_shares(dataset: Dataset, shard: ShardNumber) -> list[tuple[float, int]]:
    store, layout = Store.of(dataset), dataset.layout
    found = []
    for number in range(max(0, shard - _NEIGHBOURS), min(layout.shards, shard + _NEIGHBOURS)):
        try:
            manifest = read_manifest(store, IMAGE_SHARDS, layout.shard_key(ShardNumber(number)))
        except IntegrityError:
            continue
        if manifest is not None and DETAIL in manifest.details:
            share, sites = manifest.details[DETAIL]
            found.append((float(share), int(sites)))
    return found
