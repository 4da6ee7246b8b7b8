"""Build `raw_csv`: fetch the CSV files of a source in parallel, resume a killed fetch, commit the files as a whole."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.settings.field import compute_digest
from laion_assets.errors import SourceError
from laion_assets.http.listings.listing import Listing
from laion_assets.http.sources.background_loop import run_in_background
from laion_assets.processes.user import cache_folder
from laion_assets.stages.raw_csv.handle import RAW_CSV
from laion_assets.stages.raw_csv.inventory import Inventory, take_inventory
from laion_assets.stages.raw_csv.sources.source import open_source, source_url
from laion_assets.stages.raw_csv.transfers.parallel import FetchProgress, fetch_all
from laion_assets.stages.raw_csv.transfers.partial_files import Origin, Partials
from laion_assets.stages.raw_csv.transfers.transfer import Fetched
from laion_assets.stages.status import settings_digest
from laion_assets.store.foreign_files import refuse_foreign_files
from laion_assets.store.manifest import WHOLE, Counts, FileEntry, Manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction, recover

PARTIAL_FOLDER = f"staging/{RAW_CSV}/partial"
"""Folder of unfinished downloads, below the store's root."""


def fetch_raw_csv(dataset: Dataset, store: Store, log: Callable[[str], None]) -> Manifest:
    """Fetch the CSV files of the dataset's source and commit them as `raw_csv/...`, byte for byte.

    Committed files that did not change at the source are neither fetched nor read again. If nothing changed, returns
    the committed manifest. `csv.deleted_at_source` decides about files that the source no longer has. Names that are
    left out are counted by reason. Raises SettingError if the dataset has no source; SourceError if no file of the
    source matches, or if a file still fails after the retries. Then nothing is committed, and the fetched files are
    kept for the next run.
    """
    source_url(dataset)
    settings = settings_digest(dataset, RAW_CSV)
    earlier = recover(store, RAW_CSV)
    committed, known = read_committed(store, earlier)
    if earlier is not None and earlier.committed_at < dataset.rebuild_before:
        known = {}  # every file is fetched again
    with _open_partials(dataset, store) as partials:
        listing, found = run_in_background(lambda: _fetch(dataset, store, partials, known, log), dataset.csv.downloads)
        is_same_source = earlier is not None and earlier.settings == settings
        policy = dataset.csv.deleted_at_source if is_same_source else "remove"
        result = take_inventory(listing, found, committed, policy)
        for line in result.lines():
            log(line)
        if not result.kept and not result.fetched:
            refused = [f"{each.url}: {found[each.path].refusal}" for each in listing.files if found[each.path].refusal]
            raise SourceError(
                f"Failed to fetch all {len(listing.files)} files of {dataset.source}: "
                f"{dict(result.reasons)}.{f' First refusal: {refused[0]}' if refused else ''}"
            )
        dates = _deletion_dates(result, earlier)
        same_reasons = earlier is not None and dict(result.reasons) == dict(earlier.counts.reasons)
        same_deletions = not dates.keys() ^ read_deletions(earlier).keys()
        origins = {**known, **_fetched_versions(found)}
        if earlier and is_same_source and not result.differs and same_deletions and same_reasons:
            log(f"nothing changed at the source: {len(earlier.files):,} files are up to date")
            if any(each.etag or each.last_modified for path, each in origins.items() if each != known.get(path)):
                # The same bytes with another date or entity tag, which the next check must know.
                earlier = _commit(store, partials, result, origins, dates, settings, replaces=earlier)
            partials.clear()
            return earlier
        manifest = _commit(store, partials, result, origins, dates, settings)
        partials.clear()
    log(f"committed {len(manifest.files):,} files, {manifest.size / 1e6:,.1f} MB")
    return manifest


async def _fetch(
    dataset: Dataset, store: Store, partials: Partials, known: dict[str, Origin], log: Callable[[str], None]
) -> tuple[Listing, dict[str, Fetched]]:
    progress = FetchProgress()
    async with open_source(dataset, progress.count) as source:
        listing = await source.list_files()
        if not listing.files:
            raise SourceError(
                f"No file of the source {dataset.source} matches csv.pattern {dataset.csv.pattern!r}. "
                f"Correct one of the two.{''.join(f' {remark}.' for remark in listing.remarks)}"
            )
        refuse_foreign_files(store, RAW_CSV, {WHOLE: [f"{RAW_CSV}/{listed.path}" for listed in listing.files]})
        sizes = [listed.size for listed in listing.files]
        total = sum(sizes) if min(sizes) >= 0 else None
        about = "" if total is None else f", {total / 1e6:,.1f} MB"
        log(f"{len(listing.files):,} files at {dataset.source}{about}")
        progress.start(len(sizes), total)
        return listing, await fetch_all(source, listing.files, partials, known, dataset.csv, progress, log)


def read_committed(store: Store, earlier: Manifest | None) -> tuple[dict[str, FileEntry], dict[str, Origin]]:
    """Return the committed files of the right size, and the versions that were fetched, by path below `raw_csv/`."""
    if earlier is None:
        return {}, {}
    sizes = store.sizes(entry.path for entry in earlier.files)
    sound = {_path_below(entry.path): entry for entry in earlier.files if sizes[entry.path] == entry.size}
    origins = earlier.details.get("origins", {})
    if not isinstance(origins, dict):
        return sound, {}
    known = {path: Origin.of(origins[entry.path]) for path, entry in sound.items() if entry.path in origins}
    return sound, {path: origin for path, origin in known.items() if origin is not None}


@contextlib.contextmanager
def _open_partials(dataset: Dataset, store: Store) -> Iterator[Partials]:
    """Open the folder of unfinished downloads. For an object store, it is on this machine's disk."""
    folder = store.local_path(PARTIAL_FOLDER)
    if folder is None:
        cache = Path(dataset.csv.partial_folder or cache_folder() / "laion-assets").expanduser()
        folder = cache / f"{dataset.folder}-{hashlib.sha256(store.url.encode()).hexdigest()[:16]}"
    partials = Partials(folder)
    try:
        yield partials
    finally:
        partials.close()


def _fetched_versions(found: dict[str, Fetched]) -> dict[str, Origin]:
    return {path: each.origin for path, each in found.items() if each.state in ("fetched", "unchanged")}


def read_deletions(manifest: Manifest | None) -> dict[str, str]:
    """Return the committed files that the source no longer has, with the date on which that was noticed."""
    found = manifest.details.get("deleted_at_source") if manifest else None
    return {str(path): str(day) for path, day in found.items()} if isinstance(found, dict) else {}


def _deletion_dates(result: Inventory, earlier: Manifest | None) -> dict[str, str]:
    today, before = datetime.now(UTC).date().isoformat(), read_deletions(earlier)
    return {path: before.get(path, today) for path in sorted(result.deleted_at_source)}


def _commit(
    store: Store,
    partials: Partials,
    result: Inventory,
    origins: dict[str, Origin],
    deletion_dates: dict[str, str],
    settings: str,
    replaces: Manifest | None = None,
) -> Manifest:
    with open_transaction(store, RAW_CSV) as transaction:
        for entry in result.kept.values():
            transaction.keep(entry)
        for path, fetched in result.fetched.items():
            entry = FileEntry(f"{RAW_CSV}/{path}", fetched.size, fetched.sha256)
            _link(partials.file(path), str(transaction.stage_hashed(entry)))
        paths = sorted((*result.kept, *result.fetched))
        return transaction.commit(
            Counts(result.listed, len(paths), dict(result.reasons)),
            settings=settings,
            # Files that were deleted at source or left out are part of the result, so they change the digest.
            inputs=compute_digest([deletion_dates, dict(result.reasons)]) if deletion_dates or result.reasons else "",
            details={
                "origins": {f"{RAW_CSV}/{path}": origins[path].fields for path in paths if path in origins},
                "deleted_at_source": deletion_dates,
                "changes": dict(result.changes),
            },
            replaces=replaces,
        )


def _path_below(path: str) -> str:
    return path.removeprefix(f"{RAW_CSV}/")


def _link(existing: str, name: str) -> None:
    """Link a file to another name, or copy it where links are not possible."""
    try:
        os.link(existing, name)
    except OSError:
        shutil.copyfile(existing, name)
