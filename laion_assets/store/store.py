"""The folder of a dataset on a local disk or an object store, with the few operations that commits need.

Commits rely on atomic replacement and exclusive creation. On a local disk they are rename and link, on an object store
a put and a conditional put.

Every path passes `Store._resolve`, which refuses paths that lead out of the store.
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

from laion_assets.dataset.dataset import Dataset
from laion_assets.store.backends.local_folder import LocalFolder
from laion_assets.store.backends.object_store import ObjectStore
from laion_assets.store.paths import checked_path

_IMAGES = frozenset(("raw_csv", "published_parquet", "dedup_parquet", "dedup_rejects", "image_shards"))
_STATISTICS = frozenset(
    (
        "statistics",
        *("dataset_statistics", "dataset_statistics_parts"),
        *("image_statistics", "image_statistics_parts"),
    )
)
SHARED = {"subsets": _IMAGES, "embedding_sets": _IMAGES | _STATISTICS}
"""The artefacts that subsets and embedding sets share with their dataset, by the folder of their other files."""
_COMMIT_FOLDERS = frozenset(("manifests", "leases", "staging", "settings", "local_failures"))
"""Folders of the commit protocol. Each has a folder for every artefact."""


@dataclass(frozen=True)
class Store:
    """Files by their path relative to `url`, a local path or an fsspec URL. Picklable."""

    url: str
    own_folder: str = ""
    """The folder of the files that a subset or an embedding set does not share: `subsets/NAME`."""

    @classmethod
    def of(cls, dataset: Dataset) -> "Store":
        """Return the store of a dataset: the folder `root/name`, for a subset or an embedding set its dataset's."""
        return cls(f"{dataset.root.rstrip('/')}/{dataset.folder}", dataset.own_folder)

    def shares(self, artefact: str) -> bool:
        """Whether the files of an artefact are those of the whole dataset."""
        return not self.own_folder or artefact in SHARED[self.own_folder.partition("/")[0]]

    @cached_property
    def local_root(self) -> Path | None:
        """The folder if the store is on a local disk, else None."""
        if "://" not in self.url:
            return Path(self.url)
        return Path(self.url.removeprefix("file://")) if self.url.startswith("file://") else None

    @cached_property
    def files(self) -> LocalFolder | ObjectStore:
        """The files, by paths that are relative to `url` and checked."""
        return ObjectStore(self.url) if self.local_root is None else LocalFolder(self.local_root)

    def _resolve(self, path: str) -> str:
        """Return a path of this store relative to `url`. Raises StoreError for a path that leads out of it."""
        checked_path(path)
        if not self.own_folder:
            return path
        first, _, rest = path.partition("/")
        artefact = rest.partition("/")[0] if first in _COMMIT_FOLDERS else first
        return path if self.shares(artefact) else f"{self.own_folder}/{path}"

    def _resolve_all(self, paths: list[str]) -> list[str]:
        """Return the paths of this store relative to `url`. Quick for 160,000 paths."""
        return [self._resolve(path) for path in paths] if self.own_folder else [checked_path(path) for path in paths]

    def address(self, path: str) -> str:
        """Return the full path or URL of a file, for messages and for libraries that take URLs."""
        return f"{self.url.rstrip('/')}/{self._resolve(path)}" if path else self.url

    def local_path(self, path: str) -> Path | None:
        """Return the path on the local disk, None if the store is not on one. Raises StoreError for a link in it."""
        return self.files.folder(self._resolve(path)) if isinstance(self.files, LocalFolder) else None

    def read_bytes(self, path: str, limit: int | None = None) -> bytes:
        """Read a file. Raises FileNotFoundError, and StoreError if it is not a file or has more than `limit` bytes."""
        return self.files.read_bytes(self._resolve(path), limit)

    def open(self, path: str) -> IO[bytes]:
        """Open a file for random reads. Raises FileNotFoundError, and StoreError if it is not a file."""
        return self.files.open(self._resolve(path))

    def size(self, path: str) -> int | None:
        """Return the size of a file in bytes, None if there is no file. `problem_at` describes other objects."""
        return self.files.size(self._resolve(path))

    def sizes(self, paths: Iterable[str]) -> dict[str, int | None]:
        """Return the size of each file, None if it is missing. An object store is listed if there are many files."""
        paths = list(paths)
        return dict(zip(paths, self.files.sizes(self._resolve_all(paths)), strict=True))

    def problem_at(self, path: str) -> str:
        """Return why `size` found no file: it is missing, or something else is in its place."""
        kind = self.files.kind(self._resolve(path))
        return f"{self.address(path)} is {kind}{'' if kind == 'missing' else ' and not a file'}"

    def exists(self, path: str) -> bool:
        """Whether a file, folder or link is at the path."""
        return self.files.exist([self._resolve(path)])[0]

    def find_existing(self, paths: Iterable[str]) -> list[str]:
        """Return those of the paths that exist."""
        paths = list(paths)
        found = self.files.exist(self._resolve_all(paths))
        return [path for path, exists in zip(paths, found, strict=True) if exists]

    def check_targets(self, paths: Iterable[str]) -> None:
        """Raise StoreError if no file can be moved to a path, because a link, folder or pipe is in the way."""
        self.files.check_targets(self._resolve_all(list(paths)))

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of the files and folders in `folder` ("" is the store). Empty if it is missing."""
        try:
            return sorted(self.files.names(self._resolve(folder) if folder else ""))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def write_bytes(self, path: str, content: bytes, *, durable: bool = True) -> None:
        """Replace a file atomically: a reader gets the old content or the new, never a part.

        `durable` waits for the disk, so that this also holds after a power loss. Files that only live processes read
        do not need it.
        """
        self.files.write_bytes(self._resolve(path), content, durable)

    def create(self, path: str, content: bytes) -> bool:
        """Create a file if it does not exist, and return whether this call created it. Not durable."""
        return self.files.create(self._resolve(path), content)

    def move_all_in(self, sources: Mapping[str, Path]) -> None:
        """Move local files into the store, by their new path. Puts run in parallel, a local disk is synced once."""
        self.files.move_all_in({self._resolve(path): source for path, source in sources.items()})

    def move_all(self, targets: Mapping[str, str]) -> None:
        """Move files inside the store, each to its new path. Replaces what is there."""
        self.files.move_all({self._resolve(source): self._resolve(target) for source, target in targets.items()})

    def sync(self, folders: Iterable[str]) -> None:
        """Make the moves into these folders durable. Puts of an object store already are."""
        self.files.sync(self._resolve_all(list(folders)))

    def delete(self, path: str) -> None:
        """Delete a file, or a folder with its content. Does nothing if the path is missing."""
        self.files.delete(self._resolve(path))

    def delete_file(self, path: str) -> None:
        """Delete a file. Does nothing if it is missing or a folder."""
        self.files.delete_file(self._resolve(path))

    def local_copy(self, path: str) -> contextlib.AbstractContextManager[Path]:
        """Return a local path of a file: the file itself on a local disk, else a copy while the body runs."""
        return self.files.local_copy(self._resolve(path))


def owner_of(dataset: Dataset, artefact: str) -> str:
    """Return the dataset whose Dagster asset an artefact is: for what an embedding set shares, its dataset."""
    return dataset.graph if Store.of(dataset).shares(artefact) else dataset.name
