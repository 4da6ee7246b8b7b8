"""`raw_csv`: the crawl's CSV files, fetched in parallel, resumed where a killed fetch was, published as a whole."""

import contextlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import astuple
from functools import partial
from pathlib import Path

from laion_assets.commit.manifest import Counts, FileEntry, Manifest, sha256_of
from laion_assets.commit.publication import publication, recover
from laion_assets.commit.store import Store
from laion_assets.datasets import SAMPLE_SITE, Dataset
from laion_assets.errors import SettingError, SourceError
from laion_assets.freshness import settings_digest
from laion_assets.handles import RAW_CSV
from laion_assets.metadata.folder_transfer import copy_file
from laion_assets.metadata.http_source import HttpSource
from laion_assets.metadata.listing import list_folder, list_http
from laion_assets.metadata.partial import Origin, Partials
from laion_assets.metadata.transfer import Fetched, transfer
from laion_assets.progress import Progress

PARTIAL_FOLDER = f"staging/{RAW_CSV}/partial"
"""Downloads in the making, below the store's root; for object stores a temporary folder takes its place."""
MAX_FAILURES = 10
"""A fetch gives up when so many files could not be fetched; the message names them."""

Fetch = Callable[[Partials, Origin | None], Fetched]


def fetch_raw_csv(dataset: Dataset, store: Store, say: Callable[[str], None]) -> Manifest:
    """Fetch the CSV files of the dataset's source and publish them as `raw_csv/...`, byte for byte.

    Files that are published already and did not change at the source are not fetched again; when none did, and none
    came or went, the published manifest is returned as it is. Files that the source lists and does not have (404, 410)
    are counted as left out. Raises SettingError without a source, SourceError when the source has no file that
    matches or a file cannot be fetched after the retries: then nothing is published, and what was fetched is kept for
    the next try.
    """
    earlier = recover(store, RAW_CSV)
    published, known = _published(store, earlier)
    with _partials(store) as partials, _listed(dataset) as files:
        if not files:
            raise SourceError(
                f"the source {dataset.source} has no file that matches metadata.pattern {dataset.metadata.pattern!r}: "
                "correct one of the two."
            )
        say(f"{len(files):,} CSV files at {dataset.source}")
        found = _fetch_all(files, partials, known, dataset.metadata.downloads, say)
        reasons = Counter(each.state for each in found.values() if each.state not in ("fetched", "unchanged"))
        kept = {path: each for path, each in found.items() if each.state in ("fetched", "unchanged")}
        if not kept:
            raise SourceError(f"none of the {len(files)} files that {dataset.source} lists is there: {dict(reasons)}.")
        settings = settings_digest(dataset, RAW_CSV)
        if earlier and earlier.settings == settings and _is_identical(earlier, published, kept, partials):
            say(f"nothing changed at the source: {len(kept):,} files stay as they are")
            partials.clear()
            return earlier
        manifest = _publish(store, partials, kept, Counts(len(files), len(kept), dict(reasons)), settings)
        partials.clear()
    before = {entry.path for entry in earlier.files} if earlier else set()
    for path in before - {entry.path for entry in manifest.files}:
        store.delete(path)
    say(f"published {len(manifest.files):,} files, {manifest.size / 1e6:,.1f} MB")
    return manifest


def _published(store: Store, earlier: Manifest | None) -> tuple[dict[str, FileEntry], dict[str, Origin]]:
    """The published files that are sound, and what the source said of them when they were fetched."""
    if earlier is None:
        return {}, {}
    published = {entry.path: entry for entry in earlier.files if store.size(entry.path) == entry.size}
    origins = earlier.details.get("origins", {})
    return published, {path: Origin(*origins[path]) for path in published if path in origins}


@contextlib.contextmanager
def _partials(store: Store) -> Iterator[Partials]:
    """The folder of downloads in the making; a temporary one where the store is not on a local disk."""
    with contextlib.ExitStack() as stack:
        if store.local_root is not None:
            folder = store.local_root / PARTIAL_FOLDER
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="laion-assets-")))
        partials = Partials(folder)
        stack.callback(partials.close)
        yield partials


@contextlib.contextmanager
def _listed(dataset: Dataset) -> Iterator[dict[str, Fetch]]:
    """How to fetch each file of the source, by its path in the store."""
    url, settings = source_url(dataset), dataset.metadata
    if not url.lower().startswith(("http://", "https://")):
        import fsspec

        fs, _ = fsspec.core.url_to_fs(url)
        yield {
            f"{RAW_CSV}/{listed.path}": _binding(partial(copy_file, fs, listed, info), settings.retries)
            for listed, info in list_folder(url, settings.pattern)
        }
        return
    source = HttpSource(dataset.resolve, settings.stall_timeout_s)
    try:
        files = list_http(source, url, settings.pattern, settings.downloads, settings.retries)
        yield {f"{RAW_CSV}/{listed.path}": _binding(partial(transfer, source, listed), settings) for listed in files}
    finally:
        source.close()


def _binding(fetch: Callable[..., Fetched], last: object) -> Fetch:
    return lambda partials, published: fetch(partials, published, last)


def source_url(dataset: Dataset) -> str:
    """Where the CSVs are: the dataset's source, the embedded site's listing for `sample-site:`. Raises SettingError."""
    if not dataset.source:
        raise SettingError(
            f"the dataset {dataset.name} has no source: set source to the URL of a directory listing of CSVs or to a "
            f"folder, for example LAION_ASSETS_{dataset.name.upper()}_SOURCE=/path/to/csvs."
        )
    if dataset.source.startswith(SAMPLE_SITE):
        from laion_assets.sample.answers import CRAWL_HOST, LISTING_PATH

        return f"http://{CRAWL_HOST}{dataset.source.removeprefix(SAMPLE_SITE) or LISTING_PATH}"
    return dataset.source


def _fetch_all(
    files: dict[str, Fetch], partials: Partials, known: dict[str, Origin], downloads: int, say: Callable[[str], None]
) -> dict[str, Fetched]:
    progress = Progress(say, "files", len(files), "KB")
    found: dict[str, Fetched] = {}
    failures: list[str] = []
    pool = ThreadPoolExecutor(max_workers=max(min(downloads, len(files)), 1), thread_name_prefix="fetch")
    try:
        futures = {pool.submit(fetch, partials, known.get(path)): path for path, fetch in files.items()}
        for future in as_completed(futures):
            try:
                found[futures[future]] = future.result()
            except SourceError as error:
                failures.append(str(error))
                if len(failures) >= MAX_FAILURES:
                    break
                continue
            progress.add(fine=found[futures[future]].received // 1000)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if failures:
        raise SourceError(
            f"{len(failures)} files could not be fetched, nothing was published, and {len(found):,} fetched files are "
            f"kept for the next try:\n" + "\n".join(sorted(failures))
        )
    return found


def _is_identical(
    earlier: Manifest, published: dict[str, FileEntry], kept: dict[str, Fetched], partials: Partials
) -> bool:
    """Whether what the source has is what is published, by content."""
    if {entry.path for entry in earlier.files} != set(kept):
        return False
    for path, each in kept.items():
        if each.state == "unchanged":
            continue
        done, entry = partials.done(path.removeprefix(f"{RAW_CSV}/")), published.get(path)
        if entry is None or done.stat().st_size != entry.size:
            return False
        with done.open("rb") as file:
            if sha256_of(file) != entry.sha256:
                return False
    return True


def _publish(store: Store, partials: Partials, kept: dict[str, Fetched], counts: Counts, settings: str) -> Manifest:
    with publication(store, RAW_CSV) as attempt:
        for path, each in kept.items():
            staged = attempt.stage(path)
            if each.state == "fetched":
                _link(partials.done(path.removeprefix(f"{RAW_CSV}/")), staged)
            else:
                with store.local_copy(path) as current:
                    _link(current, staged)
        return attempt.commit(
            counts,
            settings=settings,
            inputs="",
            details={"origins": {path: list(astuple(each.origin)) for path, each in sorted(kept.items())}},
        )


def _link(existing: Path, name: Path) -> None:
    """The same file under another name, without a copy where the disk can."""
    try:
        os.link(existing, name)
    except OSError:
        shutil.copyfile(existing, name)
