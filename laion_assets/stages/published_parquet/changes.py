"""New, changed and deleted published files, from their listings."""

from laion_assets.dataset.dataset import Dataset
from laion_assets.http.sources.dataset_policy import source_policy
from laion_assets.stages.published_parquet.build import read_list
from laion_assets.stages.published_parquet.handle import PUBLISHED_PARQUET
from laion_assets.stages.published_parquet.listing import list_published_files
from laion_assets.stages.source_changes import FileVersion, SourceChanges, compare_files
from laion_assets.store.manifest import WHOLE, read_manifest
from laion_assets.store.store import Store


def find_changes(dataset: Dataset, store: Store) -> SourceChanges:
    """Compare the published files with the last observation, by size, entity tag and date. No file is opened.

    Raises SettingError and SourceError as the observation does.
    """
    source = {
        file.path: FileVersion(file.size, file.version)
        for file in list_published_files(dataset, source_policy(dataset), lambda line: None)
    }
    if read_manifest(store, PUBLISHED_PARQUET, WHOLE) is None:
        return compare_files(source, {})
    return compare_files(source, {file.path: FileVersion(file.size, file.version) for file in read_list(store)})
