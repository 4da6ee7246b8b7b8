"""Links from a partition's metadata to other partitions' places in the same Dagster page.

They begin at the page's root, so they hold for any host and port; only under a `--path-prefix` they do not.
"""

from urllib.parse import quote

import dagster as dg

from laion_assets.dataset.dataset import Dataset


def partition_link(dataset: Dataset, asset: str, key: str) -> dg.UrlMetadataValue:
    """The page of one partition of an asset of this dataset."""
    return dg.MetadataValue.url(f"{_partitions(dataset, asset)}&partition={quote(key)}")


def range_link(dataset: Dataset, asset: str, first: str, last: str) -> dg.UrlMetadataValue:
    """The partitions of an asset with those from `first` to `last` selected and the first one opened."""
    chosen = first if first == last else f"[{first}...{last}]"
    return dg.MetadataValue.url(f"{_partitions(dataset, asset)}&partition={quote(first)}&default_range={chosen}")


def _partitions(dataset: Dataset, asset: str) -> str:
    return f"/assets/{quote(dataset.name)}/{quote(asset)}?view=partitions"
