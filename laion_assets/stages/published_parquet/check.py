"""The check of `published_parquet`."""

from collections.abc import Iterator

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IntegrityError
from laion_assets.orchestration.stage_parts import ModelLoader
from laion_assets.stages.handles import PublishedParquet
from laion_assets.store.store import Store


def find_problems(dataset: Dataset, store: Store, partition: int, load_model: ModelLoader) -> Iterator[str]:
    """Files that are gone or became others since the last look."""
    from laion_assets.stages.published_parquet.build import open_published, read_list
    from laion_assets.stages.raw_csv.sources.dataset_policy import source_policy

    manifest = PublishedParquet.of(dataset).manifest(partition)
    files = read_list(store)
    if len(files) != manifest.counts.rows_out:
        yield f"the manifest counts {manifest.counts.rows_out} files and the list names {len(files)}"
    for file in files:
        try:
            with open_published(file, source_policy(dataset)):
                pass
        except IntegrityError as error:
            yield str(error)
