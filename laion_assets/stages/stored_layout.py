"""The layout of the partitions in a store, and remaining partitions of another layout.

    manifests/layout.json    {"format": 1, "parquet_files": 32, "shards": 41455, "embedding_files": 400}

Names of files depend on the layout. A dataset of 8 shards that is declared with 3 leaves 5 tars that every reader of
the folder would take in, and another number of embedding files may have another padding. The other 3 tars have the
right names and rows of the old layout; so have all 8 if 9 are declared. A run does not start while there are such
partitions. They are removed only on request (`laion-assets relayout`), by the manifests that name them. Where the
record is today's layout, a run need not list all manifests. A store of an earlier version has none: they are listed
once, and only names tell the layouts apart.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets.errors import IntegrityError, LayoutError
from laion_assets.stages.registry import find_stage, list_stages, partition_paths
from laion_assets.stages.settings_record import record_settings
from laion_assets.store.foreign_files import refuse_foreign_files
from laion_assets.store.intent import INTENT, staging_folder
from laion_assets.store.lease import lease
from laion_assets.store.manifest import manifest_path, read_manifest
from laion_assets.store.store import Store
from laion_assets.store.stored_json import parse_object
from laion_assets.store.transaction import recover

RECORD = "manifests/layout.json"
_FORMAT = 1
_NAMED = 5
_MAX_BYTES = 4_096


def prepare_store(
    dataset: Dataset, asset: str, partitions: Sequence[int], log: Callable[[str], None] = lambda line: None
) -> None:
    """Check the store (`check_store`), record the values of the stage's settings, and the layout if it is another.

    Runs once per run, before the first partition.
    """
    store = Store.of(dataset)
    recorded = check_store(dataset, asset, partitions)
    record_settings(dataset, store, find_stage(asset))
    if recorded == to_record(dataset.layout):
        return
    if recorded is not None:
        log(f"{store.url} was prepared for {_in_words(recorded)}, now for {_in_words(to_record(dataset.layout))}")
    _write_record(store, dataset.layout)


def check_store(dataset: Dataset, asset: str, partitions: Sequence[int]) -> dict[str, Any] | None:
    """Refuse a run that would mix files of two layouts or overwrite foreign files. Returns the recorded layout, if any.

    Raises LayoutError naming the partitions of another layout, StoreError naming files that this program did not write.
    """
    store = Store.of(dataset)
    recorded = read_record(store)
    if recorded != to_record(dataset.layout):
        old = old_partitions(dataset, store)
        if old:
            was = f" was built with {_in_words(recorded)} and" if recorded else ""
            raise LayoutError(
                f"The declared layout of {dataset.name}{was} has changed to {_in_words(to_record(dataset.layout))}, "
                f"and {store.url} has partitions of another layout: {describe_old(old)}. Readers of a whole folder "
                "would read both. Nothing was changed. Either set the layout back; or declare the new one under "
                "another dataset name or root; or show and remove what does not belong to it: "
                f"laion-assets relayout --dataset {dataset.name}"
            )
    key_of = find_stage(asset).handle.key
    keys = [key_of(dataset.layout, number) for number in partitions]
    refuse_foreign_files(store, asset, {key: partition_paths(asset, key, dataset.layout) for key in keys})
    return recorded


def _write_record(store: Store, layout: Layout) -> None:
    store.write_bytes(RECORD, json.dumps({"format": _FORMAT, **to_record(layout)}).encode())


def to_record(layout: Layout) -> dict[str, int]:
    """What of a layout decides the names of files; that of a subset is its whole's."""
    return {
        "parquet_files": layout.parquet_files,
        "shards": layout.shards,
        "embedding_files": layout.embedding_files,
    }


def read_record(store: Store) -> dict[str, Any] | None:
    """The layout that the store was last prepared for, None where there is no record that can be read."""
    try:
        fields = parse_object(store.read_bytes(RECORD, _MAX_BYTES))
    except (FileNotFoundError, ValueError):
        return None
    return fields if fields.pop("format", None) == _FORMAT else None


def old_partitions(dataset: Dataset, store: Store, only: str = "") -> dict[str, list[str]]:
    """Partition keys, by asset, that belong to another layout than the dataset's. Assets without any are left out.

    Of all assets, or of that one `only`. A key is old if today's layout does not have it, or if the store was prepared
    for another layout whose change gives the stage's partitions other rows. One listing of manifests and one of staging
    for each asset: the last commit of an old layout may have been killed midway.
    """
    found = {}
    changed = _changed_counts(dataset, store)
    for asset, keys in _keys(dataset):
        if only and asset != only:
            continue
        stored = {name.removesuffix(".json") for name in store.names(f"manifests/{asset}") if name.endswith(".json")}
        begun = set(store.names(f"staging/{asset}")) - keys
        stored |= {key for key in begun if INTENT in store.names(staging_folder(asset, key))}
        kept = set() if changed & _depends_on(asset) else keys
        if old := sorted(key for key in stored - kept if key.isascii() and key.isdigit()):
            found[asset] = old
    return found


def _changed_counts(dataset: Dataset, store: Store) -> set[str]:
    """Return the counts of the layout that differ from those that the store was prepared for; empty without a record.

    A subset shares partitions with the whole dataset, so that one's record counts for it, too.
    """
    now = to_record(dataset.layout)
    records = [read_record(each) for each in {store, Store(store.url)}]
    return {name for record in records if record is not None for name in now if record.get(name) != now[name]}


def _depends_on(asset: str) -> set[str]:
    """Return the counts of the layout that decide which rows are in a partition of an asset."""
    stage = find_stage(asset.removesuffix("_parts"))
    return set(stage.layout_counts) if asset != stage.name or stage.is_partitioned else set()


def remove_old_layout(dataset: Dataset, log: Callable[[str], None] = lambda line: None) -> int:
    """Remove the partitions of other layouts, each by what its manifest names; returns how many.

    Files first, the manifest last, so that a killed removal continues when it is called again. Raises IntegrityError
    for a partition whose manifest is damaged or names another partition's files, LeaseError for one that another
    process is writing. At the end the store is prepared for the dataset's layout.
    """
    store = Store.of(dataset)
    old = old_partitions(dataset, store)
    if old:
        log(f"removing {describe_old(old)}")
    removed = 0
    for asset, keys in old.items():
        for key in keys:
            _remove(store, asset, key, dataset.layout)
            removed += 1
    for each in {store, Store(store.url)}:
        if read_record(each) is not None:
            _write_record(each, dataset.layout)
    return removed


def measure_old(store: Store, old: dict[str, list[str]]) -> dict[str, tuple[int, int, int]]:
    """Return partitions, rows and bytes by asset, from the manifests. A damaged manifest counts as no rows."""
    found = {}
    for asset, keys in old.items():
        manifests = []
        for key in keys:
            with contextlib.suppress(IntegrityError):
                manifests.append(read_manifest(store, asset, key))
        committed = [manifest for manifest in manifests if manifest is not None]
        rows = sum(manifest.counts.rows_out for manifest in committed)
        found[asset] = len(keys), rows, sum(manifest.size for manifest in committed)
    return found


def describe_old(old: dict[str, list[str]]) -> str:
    """The partitions in words: `image_shards 00003, 00004 (2)`."""
    return "; ".join(
        f"{asset} {', '.join(keys[:_NAMED])}{', ...' if len(keys) > _NAMED else ''} ({len(keys):,})"
        for asset, keys in old.items()
    )


def _remove(store: Store, asset: str, key: str, layout: Layout) -> None:
    recover(store, asset, key)
    with lease(store, asset, key) as held:
        try:
            manifest = read_manifest(store, asset, key)
        except IntegrityError as error:
            raise IntegrityError(
                f"{asset} {key}, of another layout, is not removed, because its manifest does not list its "
                f"files: {error} Or remove its files and its manifest by hand."
            ) from error
        own = set(partition_paths(asset, key, layout))
        for entry in manifest.files if manifest else ():
            if entry.path not in own:
                raise IntegrityError(
                    f"the manifest of {asset} {key} names {store.address(entry.path)}, which is not a file of this "
                    "partition. No file of it was removed. Inspect it, then remove its manifest and files by hand."
                )
        for entry in manifest.files if manifest else ():
            store.delete_file(entry.path)
        store.delete_file(manifest_path(asset, key))
        held.has_moved_files = False


def _keys(dataset: Dataset) -> Iterator[tuple[str, set[str]]]:
    """Each asset with the keys that it has; the files that a subset shares are those of the whole."""
    store = Store.of(dataset)
    for stage in list_stages(dataset):
        layout = replace(dataset.layout, window=None) if store.shares(stage.name) else dataset.layout
        yield stage.name, set(stage.handle.keys(layout))
        if stage.parts is not None:
            yield f"{stage.name}_parts", set(stage.parts(dataset.layout))


def _in_words(record: dict[str, Any]) -> str:
    return ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in record.items())
