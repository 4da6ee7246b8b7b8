"""The check of `published_parquet`."""

from collections.abc import Iterator

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IntegrityError
from laion_assets.orchestration.stage_parts import ModelLoader
from laion_assets.stages.published_parquet.handle import PublishedParquet
from laion_assets.store.store import Store


def find_problems(dataset: Dataset, store: Store, partition: int, load_model: ModelLoader) -> Iterator[str]:
    """Yield files that were deleted or changed since the last observation."""
    from laion_assets.http.sources.dataset_policy import source_policy
    from laion_assets.stages.published_parquet.build import read_list
    from laion_assets.tables.published_files import open_published

    manifest = PublishedParquet.of(dataset).manifest(partition)
    files = read_list(store)
    if len(files) != manifest.counts.rows_out:
        yield f"the manifest counts {manifest.counts.rows_out} files, but the list has {len(files)}"
    for file in files:
        try:
            with open_published(file, source_policy(dataset)):
                pass
        except IntegrityError as error:
            yield str(error)
