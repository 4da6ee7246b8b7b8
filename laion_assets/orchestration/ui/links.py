"""Links to partitions and backfills in the same Dagster UI, shown by a name and not by their address.

They start at the root of the UI, so they work with any host and port, but not with a `--path-prefix`.
"""

from urllib.parse import quote

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.orchestration.declaration import asset_key
from laion_assets.orchestration.ui.metadata_values import link


def partition_link(dataset: Dataset, asset: str, key: str) -> dg.MarkdownMetadataValue:
    """Return a link to one partition of an asset of this dataset."""
    return link(f"{asset} {key}", f"{_partitions(dataset, asset)}&partition={quote(key)}")


def range_link(dataset: Dataset, asset: str, first: str, last: str) -> dg.MarkdownMetadataValue:
    """Return a link to the partitions `first` to `last` of an asset, selected, with the first one open."""
    if first == last:
        return partition_link(dataset, asset, first)
    selection = quote(f"[{first}...{last}]")
    address = f"{_partitions(dataset, asset)}&partition={quote(first)}&default_range={selection}"
    return link(f"{asset} {first} to {last}", address)


def backfill_link(backfill_id: str) -> dg.MarkdownMetadataValue:
    """Return a link to a backfill."""
    return link(f"backfill {backfill_id}", f"/runs/b/{quote(backfill_id)}")


def _partitions(dataset: Dataset, asset: str) -> str:
    return f"/assets/{'/'.join(map(quote, asset_key(dataset, asset).path))}?view=partitions"
