"""`raw_csv`: the crawl's CSV files, fetched in parallel, resumed where a killed fetch was, published as a whole."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.settings.field import digest_of
from laion_assets.errors import SourceError
from laion_assets.processes.user import cache_folder
from laion_assets.stages.handles import RAW_CSV
from laion_assets.stages.raw_csv.inventory import Inventory, inventory
from laion_assets.stages.raw_csv.sources.listing import Listing
from laion_assets.stages.raw_csv.sources.source import open_source, source_url
from laion_assets.stages.raw_csv.transfers.background_loop import run_beside
from laion_assets.stages.raw_csv.transfers.parallel import FetchProgress, fetch_all
from laion_assets.stages.raw_csv.transfers.partial_files import Origin, Partials
from laion_assets.stages.raw_csv.transfers.transfer import Fetched
from laion_assets.stages.status import settings_digest
from laion_assets.store.foreign_files import refuse_foreign_files
from laion_assets.store.manifest import WHOLE, Counts, FileEntry, Manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction, recover

PARTIAL_FOLDER = f"staging/{RAW_CSV}/partial"
"""Downloads in the making, below the store's root."""


def fetch_raw_csv(dataset: Dataset, store: Store, log: Callable[[str], None]) -> Manifest:
    """Fetch the CSV files of the dataset's source and publish them as `raw_csv/...`, byte for byte.

    Files that are published already and did not change at the source are neither fetched nor read again; when none did,
    and none came or went, the published manifest is returned as it is. `metadata.deleted_at_source` decides about files
    that the source no longer has. Names that cannot be fetched are counted by reason. Raises SettingError without a
    source, SourceError when the source has no file that matches or a file cannot be fetched after the retries: then
    nothing is published, and what was fetched is kept for the next try.
    """
    source_url(dataset)
    settings = settings_digest(dataset, RAW_CSV)
    earlier = recover(store, RAW_CSV)
    published, known = _published(store, earlier)
    with _partials(dataset, store) as partials:
        listing, found = run_beside(lambda: _fetch(dataset, store, partials, known, log), dataset.metadata.downloads)
        is_same_source = earlier is not None and earlier.settings == settings
        result = inventory(
            listing, found, published, dataset.metadata.deleted_at_source if is_same_source else "remove"
        )
        for line in result.lines():
            log(line)
        if not result.kept and not result.fetched:
            refused = [f"{each.url}: {found[each.path].refusal}" for each in listing.files if found[each.path].refusal]
            raise SourceError(
                f"none of the {len(listing.files)} files that {dataset.source} lists could be fetched: "
                f"{dict(result.reasons)}.{f' First: {refused[0]}' if refused else ''}"
            )
        noticed = _noticed(result, earlier)
        same_reasons = earlier is not None and dict(result.reasons) == dict(earlier.counts.reasons)
        same_noticed = not noticed.keys() ^ _deleted(earlier).keys()
        if earlier and is_same_source and not result.differs and same_noticed and same_reasons:
            log(f"nothing changed at the source: {len(earlier.files):,} files stay as they are")
            partials.clear()
            return earlier
        manifest = _publish(store, partials, result, {**known, **_origins(found)}, noticed, settings)
        partials.clear()
    log(f"published {len(manifest.files):,} files, {manifest.size / 1e6:,.1f} MB")
    return manifest


async def _fetch(
    dataset: Dataset, store: Store, partials: Partials, known: dict[str, Origin], log: Callable[[str], None]
) -> tuple[Listing, dict[str, Fetched]]:
    progress = FetchProgress()
    async with open_source(dataset, progress.count) as source:
        listing = await source.list_files()
        if not listing.files:
            raise SourceError(
                f"the source {dataset.source} has no file that matches metadata.pattern {dataset.metadata.pattern!r}: "
                f"correct one of the two.{''.join(f' {remark}.' for remark in listing.remarks)}"
            )
        refuse_foreign_files(store, RAW_CSV, {WHOLE: [f"{RAW_CSV}/{listed.path}" for listed in listing.files]})
        sizes = [listed.size for listed in listing.files]
        total = sum(sizes) if min(sizes) >= 0 else None
        about = "" if total is None else f", {total / 1e6:,.1f} MB"
        log(f"{len(listing.files):,} files at {dataset.source}{about}")
        progress.start(len(sizes), total)
        return listing, await fetch_all(source, listing.files, partials, known, dataset.metadata, progress, log)


def _published(store: Store, earlier: Manifest | None) -> tuple[dict[str, FileEntry], dict[str, Origin]]:
    """The published files that are sound, and what the source said of them when they were fetched; by path below."""
    if earlier is None:
        return {}, {}
    sizes = store.sizes(entry.path for entry in earlier.files)
    sound = {_below(entry.path): entry for entry in earlier.files if sizes[entry.path] == entry.size}
    origins = earlier.details.get("origins", {})
    if not isinstance(origins, dict):
        return sound, {}
    known = {path: Origin.of(origins[entry.path]) for path, entry in sound.items() if entry.path in origins}
    return sound, {path: origin for path, origin in known.items() if origin is not None}


@contextlib.contextmanager
def _partials(dataset: Dataset, store: Store) -> Iterator[Partials]:
    """The folder of downloads in the making; for an object store one on this machine's disk."""
    folder = store.local_path(PARTIAL_FOLDER)
    if folder is None:
        cache = Path(dataset.metadata.partial_folder or cache_folder() / "laion-assets").expanduser()
        folder = cache / f"{dataset.folder}-{hashlib.sha256(store.url.encode()).hexdigest()[:16]}"
    partials = Partials(folder)
    try:
        yield partials
    finally:
        partials.close()


def _origins(found: dict[str, Fetched]) -> dict[str, Origin]:
    return {path: each.origin for path, each in found.items() if each.state in ("fetched", "unchanged")}


def _deleted(manifest: Manifest | None) -> dict[str, str]:
    """Published files that the source no longer has, and since when that is known."""
    found = manifest.details.get("deleted_at_source") if manifest else None
    return {str(path): str(day) for path, day in found.items()} if isinstance(found, dict) else {}


def _noticed(result: Inventory, earlier: Manifest | None) -> dict[str, str]:
    today, before = datetime.now(UTC).date().isoformat(), _deleted(earlier)
    return {path: before.get(path, today) for path in sorted(result.deleted_at_source)}


def _publish(
    store: Store,
    partials: Partials,
    result: Inventory,
    origins: dict[str, Origin],
    noticed: dict[str, str],
    settings: str,
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
            # Files deleted at source or left out are part of the result: another count makes another manifest.
            inputs=digest_of([noticed, dict(result.reasons)]) if noticed or result.reasons else "",
            details={
                "origins": {f"{RAW_CSV}/{path}": origins[path].fields for path in paths if path in origins},
                "deleted_at_source": noticed,
                "changes": dict(result.changes),
            },
        )


def _below(path: str) -> str:
    return path.removeprefix(f"{RAW_CSV}/")


def _link(existing: str, name: str) -> None:
    """The same file under another name, without a copy where the disk can."""
    try:
        os.link(existing, name)
    except OSError:
        shutil.copyfile(existing, name)
