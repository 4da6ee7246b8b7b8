"""Observe published parquet files and commit the list of them."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IncompleteError, IntegrityError
from laion_assets.http.sources.dataset_policy import source_policy
from laion_assets.stages.published_parquet.handle import PUBLISHED_PARQUET, PublishedParquet
from laion_assets.stages.published_parquet.listing import list_published_files
from laion_assets.stages.status import settings_digest
from laion_assets.store.manifest import WHOLE, Counts, Manifest, read_manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction, recover
from laion_assets.tables.published_files import PublishedFile, read_file_list, read_footer

_THREADS = 16
"""Footers read in parallel."""


def observe_published(dataset: Dataset, store: Store, log: Callable[[str], None]) -> Manifest:
    """List the files that `published` names and commit the list as `published_parquet/files.json`.

    No file is copied. Reads footers only, and only of files that changed since the last observation. Raises
    SettingError if `published` is empty, SourceError naming a file that is missing, is not a parquet file, or lacks the
    columns of a URL and a caption.
    """
    earlier = recover(store, PUBLISHED_PARQUET)
    known: dict[str, PublishedFile] = {}
    if earlier:
        with suppress(IntegrityError):  # an altered list is written again
            known = {file.url: file for file in read_list(store)}
    policy = source_policy(dataset)

    def observe(file: PublishedFile) -> PublishedFile:
        before = known.get(file.url)
        if before is not None and before.path == file.path and before.same_version(file):
            return before
        return read_footer(file, policy, dataset.dedup.column_rules)

    files = list_published_files(dataset, policy, log)
    with ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="footer") as pool:
        found = list(pool.map(observe, files))
    changed = sum(known.get(file.url) != file for file in found)
    rows = sum(file.rows for file in found)
    log(f"observed {len(found):,} parquet files with {rows:,} rows; {changed:,} files are new or changed")
    with open_transaction(store, PUBLISHED_PARQUET) as transaction:
        transaction.stage(PublishedParquet.LIST).write_text(
            json.dumps([asdict(file) for file in found], indent=1), encoding="utf-8"
        )
        return transaction.commit(
            Counts(len(found), len(found)),
            settings=settings_digest(dataset, PUBLISHED_PARQUET),
            inputs="",
            details={"rows": rows, "bytes": sum(file.size for file in found)},
        )


def read_list(store: Store) -> list[PublishedFile]:
    """Read the list of the last observation.

    Raises IncompleteError if there was no observation, IntegrityError if the list was altered.
    """
    manifest = read_manifest(store, PUBLISHED_PARQUET, WHOLE)
    if manifest is None:
        raise IncompleteError(f"{PUBLISHED_PARQUET} was not observed in {store.url}. Observe it first.")
    return read_file_list(store, manifest, PublishedParquet.LIST)
