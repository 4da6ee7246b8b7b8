"""New, changed and deleted files of the CSV source, from its listing."""

from laion_assets.dataset.dataset import Dataset
from laion_assets.http.listings.listing import Listing
from laion_assets.http.sources.background_loop import run_in_background
from laion_assets.stages.raw_csv.handle import RAW_CSV
from laion_assets.stages.raw_csv.sources.source import open_source
from laion_assets.stages.raw_csv.transfers.partial_files import Origin
from laion_assets.stages.source_changes import FileVersion, SourceChanges, compare_files
from laion_assets.store.manifest import WHOLE, Manifest, read_manifest
from laion_assets.store.store import Store


def find_changes(dataset: Dataset, store: Store) -> SourceChanges:
    """Compare the listing of the source with the committed files. No file is downloaded.

    A listing over HTTP has no sizes and dates, so a changed file with an old name is found only by a run of `raw_csv`,
    which asks for each file whether it changed. The embedded site never changes: it is not started. Raises SettingError
    without a source, SourceError for a source that cannot be listed.
    """
    manifest = read_manifest(store, RAW_CSV, WHOLE)
    if manifest is not None and dataset.uses_sample_site:
        return SourceChanges(0, 0, 0, manifest.content)
    listing = run_in_background(lambda: _list(dataset), dataset.csv.downloads)
    source = {listed.path: FileVersion(listed.size, listed.version) for listed in listing.files}
    if manifest is None:
        return compare_files(source, {})
    gone = manifest.details.get("deleted_at_source")
    return compare_files(source, _committed(manifest), gone if isinstance(gone, dict) else ())


async def _list(dataset: Dataset) -> Listing:
    async with open_source(dataset, lambda count: None) as source:
        return await source.list_files()


def _committed(manifest: Manifest) -> dict[str, FileVersion]:
    origins = manifest.details.get("origins", {})
    found = {}
    for entry in manifest.files:
        origin = Origin.of(origins[entry.path]) if isinstance(origins, dict) and entry.path in origins else None
        known = FileVersion() if origin is None else FileVersion(origin.size, origin.version)
        found[entry.path.removeprefix(f"{RAW_CSV}/")] = known
    return found
