"""The shards that may hold uids, from the layout and the footers of dedup_parquet. No rows are read."""

import bisect
from collections.abc import Iterable

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import ParquetNumber, ShardNumber
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET, DedupParquet
from laion_assets.store.manifest import read_manifest
from laion_assets.store.store import Store
from laion_assets.store.stored_parquet import open_parquet


def shards_of_uids(dataset: Dataset, uids: Iterable[str]) -> list[ShardNumber]:
    """Return the numbers of the shards whose rows in dedup_parquet may have one of the uids, ascending.

    Returns all shards if a parquet file that is needed is not committed: shards that were adopted without it may have
    any uid. Raises IntegrityError for an altered file.
    """
    layout = dataset.layout
    by_parquet: dict[ParquetNumber, list[str]] = {}
    for uid in sorted(uids):
        parquet = layout.parquet_of_uid(uid)
        if parquet in layout.parquet_numbers:
            by_parquet.setdefault(parquet, []).append(uid)
    found = list[ShardNumber]()
    for parquet, listed in sorted(by_parquet.items()):
        shards = layout.shards_of_parquet(parquet)
        bounds = _uid_bounds(dataset, parquet)
        if bounds is None:
            return list(layout.shard_numbers)
        for shard, (first, last) in zip(shards, bounds, strict=True):
            place = bisect.bisect_left(listed, first)
            if place < len(listed) and listed[place] <= last:
                found.append(shard)
    return found


def _uid_bounds(dataset: Dataset, parquet: ParquetNumber) -> list[tuple[str, str]] | None:
    """Return the first and last uid of each row group of a parquet file, None if it is not committed."""
    import pyarrow.parquet as pq

    store, layout = Store.of(dataset), dataset.layout
    manifest = read_manifest(store, DEDUP_PARQUET, layout.parquet_key(parquet))
    if manifest is None:
        return None
    with open_parquet(store, manifest, DedupParquet.path(layout, parquet)) as file:
        footer = pq.read_metadata(file)
    bounds = []
    for group in range(footer.num_row_groups):
        uids = footer.row_group(group).column(0).statistics
        bounds.append((uids.min, uids.max) if uids is not None and uids.has_min_max else ("g", ""))  # no uid is in it
    return bounds
