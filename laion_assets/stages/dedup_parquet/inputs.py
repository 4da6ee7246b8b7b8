"""The inputs of `dedup_parquet`: fetched CSV files in the store, or published parquet files, read in place."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IncompleteError, IntegrityError
from laion_assets.http.sources.dataset_policy import source_policy
from laion_assets.http.sources.source_policy import SourcePolicy
from laion_assets.stages.published_parquet.handle import PUBLISHED_PARQUET, PublishedParquet
from laion_assets.stages.raw_csv.handle import RAW_CSV
from laion_assets.store.manifest import WHOLE, Manifest, disagreement, read_manifest
from laion_assets.store.store import Store
from laion_assets.tables.published_files import PublishedFile, open_published, read_file_list


@dataclass(frozen=True)
class Inputs:
    """The files of a dataset's first asset, (path, size) each, and how a worker opens them. Picklable."""

    store: Store
    files: tuple[tuple[str, int], ...]
    published: dict[str, PublishedFile] = field(default_factory=dict)
    policy: SourcePolicy = SourcePolicy()

    @property
    def size(self) -> int:
        """Size of all files in bytes."""
        return sum(size for _, size in self.files)

    @contextmanager
    def open(self, path: str, size: int) -> Iterator[IO[bytes]]:
        """Open a file. Raises IntegrityError if it is not the file that the manifest describes."""
        if path in self.published:
            with open_published(self.published[path], self.policy) as file:
                yield file
            return
        if self.store.size(path) != size:
            raise IntegrityError(f"{self.store.address(path)} changed while it was read. Materialize {RAW_CSV} again.")
        with self.store.open(path) as file:
            yield file

    def source_file(self, path: str) -> str:
        """Return the value of `source_file` for the rows of a file: its path below the source."""
        return path if path in self.published else path.removeprefix(f"{RAW_CSV}/")


def find_inputs(dataset: Dataset, store: Store) -> tuple[Manifest, Inputs]:
    """Return the inputs of a dataset, with the manifest that identifies them. Raises IncompleteError."""
    asset = PUBLISHED_PARQUET if dataset.published else RAW_CSV
    manifest = read_manifest(store, asset, WHOLE)
    problem = "not committed" if manifest is None else disagreement(store, manifest)
    if manifest is None or problem:
        action = "Observe" if dataset.published else "Materialize"
        raise IncompleteError(f"{asset} of {dataset.name} is not complete ({problem}). {action} it first.")
    if not dataset.published:
        return manifest, Inputs(store, tuple((entry.path, entry.size) for entry in manifest.files))
    files = read_file_list(store, manifest, PublishedParquet.LIST)
    sizes = tuple((each.path, each.size) for each in files)
    return manifest, Inputs(store, sizes, {each.path: each for each in files}, source_policy(dataset))
