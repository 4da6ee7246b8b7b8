"""What changed at a dataset's source since its files were fetched. Nothing is fetched.

The names of the files, and of each file its entity tag, date and size, are compared with the committed manifest.
"""

import asyncio

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SourceError
from laion_assets.http.listings.listing import Listed, Listing
from laion_assets.http.sources.background_loop import run_in_background
from laion_assets.stages.raw_csv.build import read_committed, read_deletions
from laion_assets.stages.raw_csv.handle import RAW_CSV
from laion_assets.stages.raw_csv.sources.source import Source, open_source
from laion_assets.stages.raw_csv.transfers.partial_files import Origin
from laion_assets.stages.source_changes import SourceChanges
from laion_assets.store.manifest import WHOLE, Manifest, read_manifest
from laion_assets.store.store import Store


def find_source_changes(dataset: Dataset) -> SourceChanges:
    """Compare the source of a dataset with its fetched files; with none of them, every file is new.

    The embedded site is part of this program and never compared. Raises SourceError if the source cannot be listed, or
    if a file cannot be checked after the retries.
    """
    store = Store.of(dataset)
    earlier = read_manifest(store, RAW_CSV, WHOLE)
    if dataset.uses_sample_site or (not dataset.source and earlier is not None):
        return SourceChanges()
    _, known = read_committed(store, earlier)
    try:
        listing, states = run_in_background(lambda: _compare_all(dataset, known), dataset.csv.downloads)
    except SourceError as error:
        if earlier is None:
            raise
        raise SourceError(
            f"{error} The source is checked for changes first. To use the files that were fetched before, add "
            "--no-refresh."
        ) from error
    return _summarise(listing, states, earlier, dataset)


async def _compare_all(dataset: Dataset, known: dict[str, Origin]) -> tuple[Listing, dict[str, str]]:
    async with open_source(dataset, lambda size: None) as source:
        listing = await source.list_files()
        if not listing.files:
            raise SourceError(f"No file of the source {dataset.source} matches csv.pattern {dataset.csv.pattern!r}.")
        places = asyncio.Semaphore(min(dataset.csv.downloads, dataset.csv.connections_per_host))
        compared = [each for each in listing.files if each.path in known]
        found = await asyncio.gather(*(_compare(source, each, known[each.path], places) for each in compared))
        return listing, {each.path: state for each, state in zip(compared, found, strict=True)}


async def _compare(source: Source, listed: Listed, committed: Origin, places: asyncio.Semaphore) -> str:
    async with places:
        return await source.compare(listed, committed)


def _summarise(listing: Listing, states: dict[str, str], earlier: Manifest | None, dataset: Dataset) -> SourceChanges:
    committed = {entry.path.removeprefix(f"{RAW_CSV}/") for entry in earlier.files} if earlier else set()
    listed = {each.path: each for each in listing.files}
    new = [path for path in listed if path not in committed]
    if earlier is not None:
        # Files that the last fetch left out are listed, too. They are new only if there are more of them than then.
        left_out = sum(earlier.counts.reasons.values()) - sum(listing.left_out.values())
        new = new if len(new) > left_out else []
    changed = [path for path, state in states.items() if state == "changed"]
    changed += [path for path in listed if path in committed and path not in states]
    gone = (committed - listed.keys()) | {path for path, state in states.items() if state == "deleted"}
    deleted = {path for path in gone if path not in read_deletions(earlier)}
    sizes = [listed[path].size for path in (*new, *changed)]
    total = sum(sizes) if all(size >= 0 for size in sizes) else None
    return SourceChanges(tuple(sorted(new)), tuple(sorted(changed)), tuple(sorted(deleted)), total)
