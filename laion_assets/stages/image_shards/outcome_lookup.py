"""What became of the image of one row: its row in the parquet file of its shard."""

from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import ShardNumber
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS, ImageShards
from laion_assets.store.manifest import read_manifest
from laion_assets.store.store import Store
from laion_assets.store.stored_parquet import open_parquet

_COLUMNS = ("uid", "status", "reason", "error_message", "width", "height", "original_width", "original_height")


def find_outcome(dataset: Dataset, store: Store, shard: ShardNumber, key: str, uid: str) -> dict[str, Any] | None:
    """Return status, reason, error message and sizes of a row's image, None if its shard does not have the row.

    A shard does not have it if it is not committed, or was built from other rows. Adopted shards have no `uid` and no
    `reason`: their rows are found by `key`. Raises IntegrityError if the shard's files were altered.
    """
    import pyarrow.parquet as pq

    manifest = read_manifest(store, IMAGE_SHARDS, dataset.layout.shard_key(shard))
    if manifest is None:
        return None
    with open_parquet(store, manifest, ImageShards.path(dataset.layout, shard, ".parquet")) as opened:
        file = pq.ParquetFile(opened)
        names = [name for name in ("key", *_COLUMNS) if name in file.schema_arrow.names]
        table = file.read(names)
    keys = table.column("key").to_pylist()
    if key not in keys:
        return None
    (row,) = table.slice(keys.index(key), 1).to_pylist()
    if row.get("uid", uid) != uid:
        return None
    return {name: row.get(name) for name in _COLUMNS if name != "uid"}
