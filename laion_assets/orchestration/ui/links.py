"""Links from a partition's metadata to other partitions in the same Dagster UI.

They start at the root of the UI, so they work with any host and port, but not with a `--path-prefix`.
"""

from urllib.parse import quote

import dagster as dg

from laion_assets.dataset.dataset import Dataset


def partition_link(dataset: Dataset, asset: str, key: str) -> dg.UrlMetadataValue:
    """Return a link to one partition of an asset of this dataset."""
    return dg.MetadataValue.url(f"{_partitions(dataset, asset)}&partition={quote(key)}")


def range_link(dataset: Dataset, asset: str, first: str, last: str) -> dg.UrlMetadataValue:
    """Return a link to the partitions `first` to `last` of an asset, selected, with the first one open."""
    selection = first if first == last else f"[{first}...{last}]"
    return dg.MetadataValue.url(f"{_partitions(dataset, asset)}&partition={quote(first)}&default_range={selection}")


def _partitions(dataset: Dataset, asset: str) -> str:
    return f"/assets/{quote(dataset.name)}/{quote(asset)}?view=partitions"
