"""The inputs of a shard's watch: the dataset's settings, the process's network memory, and URLs of other shards."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import ShardNumber
from laion_assets.errors import LaionAssetsError
from laion_assets.stages.dedup_parquet.handle import DedupParquet
from laion_assets.stages.image_shards.local_failures.failing_sites import find_site
from laion_assets.stages.image_shards.local_failures.network_check import network_probe
from laion_assets.stages.image_shards.local_failures.network_memory import NetworkMemory
from laion_assets.stages.image_shards.local_failures.watch import Evidence
from laion_assets.store.store import Store

_OTHER_SHARDS = 200
"""Maximum row groups to read for other URLs; enough even with four rows each."""


def collect_evidence(dataset: Dataset, shard: ShardNumber, memory: NetworkMemory) -> Evidence:
    """Return the evidence for a shard that this process fetches."""
    images = dataset.images
    return Evidence(
        memory,
        network_probe(dataset),
        lambda: other_urls(dataset, shard),
        images.probe_urls,
        images.expected_failures,
        images.refuse_local_failures,
    )


def other_urls(dataset: Dataset, shard: ShardNumber) -> Iterator[str]:
    """Yield URLs of the nearest shards in the same parquet file, one per site."""
    layout = dataset.layout
    shards = layout.shards_of_parquet(layout.parquet_of_shard(shard))
    nearest = sorted((other for other in shards if other != shard), key=lambda other: abs(other - shard))
    rows = DedupParquet(Store.of(dataset), layout, ())
    seen: set[str] = set()
    for other in nearest[:_OTHER_SHARDS]:
        try:
            urls = rows.shard_rows(other).column("URL").to_pylist()
        except (OSError, LaionAssetsError):
            return
        for url in urls:
            try:
                site = find_site(urlsplit(url).hostname or "")
            except ValueError:
                continue
            if site and site not in seen:
                seen.add(site)
                yield url
