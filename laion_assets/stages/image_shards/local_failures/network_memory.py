"""What a process knows of the network from its earlier shards: URLs that worked, and how often sites fail."""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import ShardNumber
from laion_assets.errors import IntegrityError
from laion_assets.stages.handles import IMAGE_SHARDS
from laion_assets.stages.image_shards.local_failures.failing_sites import mean_share
from laion_assets.store.manifest import read_manifest
from laion_assets.store.store import Store

DETAIL = "failing_sites"
"""The manifest's detail: `[share, sites]`."""
_URLS, _SHARES, _NEIGHBOURS = 64, 100, 16
_MAX_DATASETS = 8


@dataclass
class NetworkMemory:
    """`urls` by (scheme, site), the latest last; `shares` of the latest shards, (share, sites)."""

    urls: OrderedDict[tuple[str, str], str] = field(default_factory=OrderedDict)
    shares: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_SHARES))

    def worked(self, scheme: str, site: str, url: str) -> None:
        """Take note of a URL whose image came."""
        self.urls[scheme, site] = url
        self.urls.move_to_end((scheme, site))
        if len(self.urls) > _URLS:
            self.urls.popitem(last=False)

    def known_good(self, scheme: str, count: int) -> list[str]:
        """The latest URLs of this scheme that worked, of as many sites."""
        return [url for (of, _), url in reversed(self.urls.items()) if of == scheme][:count]

    @property
    def share(self) -> float | None:
        """The share of sites that fail, None where too little is known."""
        return mean_share(list(self.shares))


_memories: OrderedDict[tuple[str, str], NetworkMemory] = OrderedDict()


def network_memory(dataset: Dataset, shard: ShardNumber) -> NetworkMemory:
    """The process's memory for a dataset; a new one begins with the shares of committed shards next to this one."""
    key = (dataset.root, dataset.folder)
    if key not in _memories:
        _memories[key] = NetworkMemory()
        _memories[key].shares.extend(_committed_shares(dataset, shard))
        if len(_memories) > _MAX_DATASETS:
            _memories.popitem(last=False)
    return _memories[key]


def _committed_shares(dataset: Dataset, shard: ShardNumber) -> list[tuple[float, int]]:
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
