"""Lookup of one row by its uid: the layout determines the file and its footer the row group, and only that is read."""

import re
from dataclasses import dataclass
from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.identity import compute_uid
from laion_assets.dataset.layout import ParquetNumber, ShardNumber
from laion_assets.errors import IncompleteError, IntegrityError, SettingError
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET, DedupParquet
from laion_assets.store.manifest import read_manifest
from laion_assets.store.store import Store
from laion_assets.store.stored_parquet import open_parquet

_UID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class FoundRow:
    """A row and its place: parquet file, shard, and number in the shard. `key` is img2dataset's key."""

    parquet: ParquetNumber
    shard: ShardNumber
    row: int
    key: str
    values: dict[str, Any]


def find_uid(dataset: Dataset, store: Store, uid: str) -> FoundRow | None:
    """Return the row with this uid, None if the dataset has none.

    Reads a footer and at most one row group. Raises SettingError for an invalid uid, IncompleteError if the parquet
    file of its hash range is not committed, IntegrityError if the file or the row was altered.
    """
    import pyarrow.parquet as pq

    uid = uid.strip().lower()
    if not _UID.fullmatch(uid):
        raise SettingError(f"Invalid uid {uid!r}: expected 32 hexadecimal digits, the md5 of url, NUL and caption.")
    layout = dataset.layout
    parquet = layout.parquet_of_uid(uid)
    manifest = read_manifest(store, DEDUP_PARQUET, layout.parquet_key(parquet))
    if manifest is None:
        raise IncompleteError(f"{DEDUP_PARQUET} {layout.parquet_key(parquet)} is not committed. Materialize it first.")
    with open_parquet(store, manifest, DedupParquet.path(layout, parquet)) as opened:
        file = pq.ParquetFile(opened)
        group = find_row_group(file.metadata, uid)
        if group is None:
            return None
        uids = file.read_row_group(group, ["uid"])["uid"].to_pylist()
        if uid not in uids:
            return None
        row = uids.index(uid)
        (values,) = file.read_row_group(group).slice(row, 1).to_pylist()
    if compute_uid(values["URL"] or "", values["TEXT"]) != uid:
        raise IntegrityError(
            f"{store.address(DedupParquet.path(layout, parquet))} was altered: the uid of row {row} in row group "
            f"{group} is not that of its url and caption. Materialize {DEDUP_PARQUET} {manifest.key} again."
        )
    shard = layout.shards_of_parquet(parquet)[group]
    return FoundRow(parquet, shard, row, layout.sample_key(shard, row), values)


def find_row_group(metadata: Any, uid: str) -> int | None:
    """Return the row group whose minimum and maximum uid, by the file's footer, enclose this uid, or None."""
    for group in range(metadata.num_row_groups):
        column = metadata.row_group(group).column(0)
        bounds = column.statistics
        if column.num_values and bounds.min <= uid <= bounds.max:
            return group
    return None
