"""New, changed and deleted published files, from their listings."""

from laion_assets.dataset.dataset import Dataset
from laion_assets.http.sources.dataset_policy import source_policy
from laion_assets.stages.published_parquet.build import read_list
from laion_assets.stages.published_parquet.handle import PUBLISHED_PARQUET
from laion_assets.stages.published_parquet.listing import list_published_files
from laion_assets.stages.source_changes import SourceChanges
from laion_assets.store.manifest import WHOLE, read_manifest
from laion_assets.store.store import Store
from laion_assets.tables.published_files import PublishedFile


def find_changes(dataset: Dataset) -> SourceChanges:
    """Compare the published files with the last observation, by size, entity tag and date. No file is opened.

    Raises SettingError and SourceError as the observation does.
    """
    store = Store.of(dataset)
    listed = list_published_files(dataset, source_policy(dataset), lambda line: None)
    was_observed = read_manifest(store, PUBLISHED_PARQUET, WHOLE) is not None
    before = {file.path: file for file in read_list(store)} if was_observed else {}
    new = [file for file in listed if file.path not in before]
    changed = [file for file in listed if file.path in before and _differs(file, before[file.path])]
    deleted = before.keys() - {file.path for file in listed}
    return SourceChanges(
        new=tuple(file.path for file in new),
        changed=tuple(file.path for file in changed),
        deleted=tuple(sorted(deleted)),
        size=sum(file.size for file in (*new, *changed)),
    )


def _differs(now: PublishedFile, before: PublishedFile) -> bool:
    """Whether size or version differ. A store that reports no version is compared by size."""
    return now.size != before.size or (bool(now.version) and now.version != before.version)
