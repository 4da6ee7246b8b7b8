"""The layout of the partitions in a store, and remaining partitions of another layout.

    manifests/layout.json    {"format": 1, "parquet_files": 32, "shards": 41455, "embedding_files": 400}

Names of files depend on the layout. A dataset of 8 shards that is declared with 3 leaves 5 tars that every reader of
the folder would take in, and another number of embedding files may have another padding. A run does not start while
there are such partitions; they are removed only on request, by the manifests that name them. Where the record is
today's layout, a run need not list all manifests. A store of an earlier version has none: they are listed once.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets.errors import IntegrityError, LayoutError
from laion_assets.stages.registry import find_stage, list_stages, partition_paths
from laion_assets.store.foreign_files import refuse_foreign_files
from laion_assets.store.intent import INTENT, staging_folder
from laion_assets.store.lease import lease
from laion_assets.store.manifest import manifest_path, read_manifest
from laion_assets.store.store import SHARED, Store
from laion_assets.store.stored_json import parse_object
from laion_assets.store.transaction import recover

RECORD = "manifests/layout.json"
_FORMAT = 1
_NAMED = 5
_MAX_BYTES = 4_096


def prepare_store(
    dataset: Dataset, asset: str, partitions: Sequence[int], log: Callable[[str], None] = lambda line: None
) -> None:
    """Check the store (`check_store`) and record the dataset's layout if the store has another record or none.

    Runs once per run, before the first partition.
    """
    store = Store.of(dataset)
    recorded = check_store(dataset, asset, partitions)
    if recorded == to_record(dataset.layout):
        return
    if recorded is not None:
        log(
            f"{store.url} was built with {_in_words(recorded)} and the dataset has "
            f"{_in_words(to_record(dataset.layout))} now: partitions of the old layout are stale"
        )
    store.write_bytes(RECORD, json.dumps({"format": _FORMAT, **to_record(dataset.layout)}).encode())


def check_store(dataset: Dataset, asset: str, partitions: Sequence[int]) -> dict[str, Any] | None:
    """Refuse a run that would mix files of two layouts or overwrite foreign files. Returns the recorded layout, if any.

    Raises LayoutError naming the partitions of another layout, StoreError naming files that this program did not write.
    """
    store = Store.of(dataset)
    recorded = read_record(store)
    if recorded != to_record(dataset.layout):
        old = old_partitions(dataset, store)
        if old:
            raise LayoutError(
                f"{dataset.name} has partitions of another layout in {store.url}: {describe_old(old)}. The dataset "
                f"now has {_in_words(to_record(dataset.layout))}. Readers of a whole folder would read both. Nothing "
                "was changed. Set the layout back, choose another root (setting `root`), or remove these partitions: "
                f"laion-assets materialize --dataset {dataset.name} --remove-old-layout (in Python: "
                "laion_assets.stages.stored_layout.remove_old_layout(dataset))."
            )
    key_of = find_stage(asset).handle.key
    keys = [key_of(dataset.layout, number) for number in partitions]
    refuse_foreign_files(store, asset, {key: partition_paths(asset, key, dataset.layout) for key in keys})
    return recorded


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
    """Partition keys, by asset, that the store has and the dataset's layout does not; assets without any are left out.

    Of all assets, or of that one `only`.
    One listing of manifests and one of staging for each asset: the last commit of an old layout may have been
    killed midway.
    """
    found = {}
    for asset, keys in _keys(dataset):
        if only and asset != only:
            continue
        stored = {name.removesuffix(".json") for name in store.names(f"manifests/{asset}") if name.endswith(".json")}
        begun = set(store.names(f"staging/{asset}")) - keys
        stored |= {key for key in begun if INTENT in store.names(staging_folder(asset, key))}
        if old := sorted(key for key in stored - keys if key.isascii() and key.isdigit()):
            found[asset] = old
    return found


def remove_old_layout(dataset: Dataset, log: Callable[[str], None] = lambda line: None) -> int:
    """Remove the partitions of other layouts, each by what its manifest names; returns how many.

    Files first, the manifest last, so that a killed removal continues when it is called again. Raises IntegrityError
    for a partition whose manifest is damaged or names another partition's files, LeaseError for one that another
    process is writing.
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
    return removed


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
    for stage in list_stages(dataset):
        layout = replace(dataset.layout, window=None) if stage.name in SHARED else dataset.layout
        yield stage.name, set(stage.handle.keys(layout))
        if stage.parts is not None:
            yield f"{stage.name}_parts", set(stage.parts(dataset.layout))


def _in_words(record: dict[str, Any]) -> str:
    return ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in record.items())
