"""A dataset's folder on a local disk or an object store, with the few operations that commits need.

Atomic replacement and exclusive creation are what the rest relies on: on a local disk they are rename and link, on an
object store a put and a conditional put (`If-None-Match: *`, which S3 has had since 2024).
"""

import contextlib
import ctypes
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, cast

from laion_assets.datasets import Dataset

_SHARED = frozenset(("raw_csv", "published_parquet", "dedup_parquet", "dedup_rejects", "image_shards"))
"""The artefacts that a subset has in common with the whole."""
_BOOKS = frozenset(("manifests", "claims", "staging"))
"""The folders of the commit, each with a folder for every artefact."""
_PARALLEL_PUTS = 32
_LISTED_FROM = 32
"""So many files of an object store are looked up by a listing, not one by one."""
_SYNCED_FROM = 32
"""So many files are made durable by one sync of their disk; an fsync each would wait for the disk each time."""


@dataclass(frozen=True)
class Store:
    """Files by their path relative to `url`, a local path or an fsspec URL. Picklable; opens its file system lazily."""

    url: str
    subset: str = ""
    """The subset whose store this is: what it does not share with the whole lies below `subsets/NAME/`."""

    @classmethod
    def of(cls, dataset: Dataset) -> "Store":
        """The store of a dataset: the folder `root/name`, of a subset that of the whole."""
        return cls(f"{dataset.root.rstrip('/')}/{dataset.folder}", dataset.name if dataset.part_of else "")

    def _at(self, path: str) -> str:
        """Where a path of this store lies below `url`."""
        if not self.subset:
            return path
        first, _, rest = path.partition("/")
        artefact = rest.partition("/")[0] if first in _BOOKS else first
        return path if artefact in _SHARED else f"subsets/{self.subset}/{path}"

    def local_path(self, path: str) -> Path | None:
        """The path on a local disk, None where the store is not on one."""
        return None if self.local_root is None else self.local_root / self._at(path)

    @cached_property
    def local_root(self) -> Path | None:
        """The folder when the store is on a local disk, else None."""
        if "://" not in self.url:
            return Path(self.url)
        return Path(self.url.removeprefix("file://")) if self.url.startswith("file://") else None

    @cached_property
    def _remote(self) -> tuple[Any, str]:
        import fsspec

        from laion_assets.http.urls.places import refuse_http_file_system

        refuse_http_file_system(self.url)
        fs, base = fsspec.core.url_to_fs(self.url)
        fs.use_listings_cache = False
        if hasattr(fs, "dircache"):
            fs.dircache.use_listings_cache = False
        return fs, base.rstrip("/")

    def address(self, path: str) -> str:
        """The full path or URL of a file, for messages and for libraries that take URLs."""
        return f"{self.url.rstrip('/')}/{self._at(path)}"

    @cached_property
    def _local_base(self) -> str | None:
        """`local_root` as text: joining texts is ten times as fast as joining paths, and a status joins 160,000."""
        return None if self.local_root is None else str(self.local_root)

    def read_bytes(self, path: str) -> bytes:
        """The file's content. Raises FileNotFoundError."""
        if self._local_base is not None:
            with open(f"{self._local_base}/{self._at(path)}", "rb") as file:
                return file.read()
        fs, base = self._remote
        return cast(bytes, fs.cat_file(f"{base}/{self._at(path)}"))

    def open(self, path: str) -> IO[bytes]:
        """The file, open for reading at random positions. Raises FileNotFoundError."""
        if self.local_root is not None:
            return (self.local_root / self._at(path)).open("rb")
        fs, base = self._remote
        return cast(IO[bytes], fs.open(f"{base}/{self._at(path)}", "rb"))

    def size(self, path: str) -> int | None:
        """The file's size in bytes, None where there is no such file."""
        try:
            if self._local_base is not None:
                return os.stat(f"{self._local_base}/{self._at(path)}").st_size
            fs, base = self._remote
            return cast(int, fs.info(f"{base}/{self._at(path)}")["size"])
        except (FileNotFoundError, NotADirectoryError):
            return None

    def sizes(self, paths: Iterable[str]) -> dict[str, int | None]:
        """The size of each file, None where there is none; an object store is asked a listing a thousand files."""
        paths = list(paths)
        if self.local_root is not None or len(paths) < _LISTED_FROM:
            return {path: self.size(path) for path in paths}
        fs, base = self._remote
        found: dict[str, int] = {}
        for top in {self._at(path).removesuffix(path) + path.partition("/")[0] for path in paths}:
            with contextlib.suppress(FileNotFoundError):
                listed = fs.find(f"{base}/{top}", detail=True)
                found |= {name.removeprefix(f"{base}/"): info["size"] for name, info in listed.items()}
        return {path: found.get(self._at(path)) for path in paths}

    def names(self, folder: str) -> list[str]:
        """Sorted names of the files and folders directly in `folder`; none where there is no such folder."""
        try:
            if self.local_root is not None:
                return sorted(os.listdir(self.local_root / self._at(folder)))
            fs, base = self._remote
            return sorted(
                entry.rstrip("/").rsplit("/", 1)[-1] for entry in fs.ls(f"{base}/{self._at(folder)}", detail=False)
            )
        except (FileNotFoundError, NotADirectoryError):
            return []

    def write_bytes(self, path: str, content: bytes, *, durable: bool = True) -> None:
        """Replace the file as a whole: a reader sees the old content or the new, never a part.

        `durable`: also after a loss of power; what only living processes read does not wait for the disk.
        """
        if self.local_root is None:
            fs, base = self._remote
            fs.pipe_file(f"{base}/{self._at(path)}", content)
            return
        target = self.local_root / self._at(path)
        temporary = self._temporary_beside(target, content, durable)
        os.replace(temporary, target)
        if durable:
            fsync_folder(target.parent)

    def create(self, path: str, content: bytes) -> bool:
        """Create the file with this content if it does not exist; whether this call created it. Not durable."""
        if self.local_root is None:
            fs, base = self._remote
            try:
                fs.pipe_file(f"{base}/{self._at(path)}", content, mode="create")
            except FileExistsError:
                return False
            return True
        target = self.local_root / self._at(path)
        temporary = self._temporary_beside(target, content, durable=False)
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def move_in(self, source: Path, path: str) -> None:
        """Move a local file into the store, durably, replacing what is there."""
        if self.local_root is None:
            fs, base = self._remote
            fs.put_file(str(source), f"{base}/{self._at(path)}")
            source.unlink()
            return
        with self._move_local(source, path).open("rb") as file:
            os.fsync(file.fileno())

    def _move_local(self, source: Path, path: str) -> Path:
        assert self.local_root is not None
        target = self.local_root / self._at(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(source, target)
        except OSError:
            temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
            shutil.copyfile(source, temporary)
            os.replace(temporary, target)
            source.unlink()
        return target

    def move_all_in(self, sources: Mapping[str, Path]) -> None:
        """Move many local files into the store, by their new path: puts run in parallel, a disk is synced once."""
        if self.local_root is None:
            with ThreadPoolExecutor(_PARALLEL_PUTS, thread_name_prefix="put") as pool:
                list(pool.map(self.move_in, sources.values(), sources))
        elif len(sources) < _SYNCED_FROM:
            for path, source in sources.items():
                self.move_in(source, path)
        else:
            for path, source in sources.items():
                if source != self.local_root / self._at(path):
                    self._move_local(source, path)
            sync_disk_of(self.local_root)

    def move_all(self, targets: Mapping[str, str]) -> None:
        """Move many files inside the store, each to its new path, replacing what is there."""
        if self.local_root is None:
            with ThreadPoolExecutor(_PARALLEL_PUTS, thread_name_prefix="move") as pool:
                list(pool.map(self.move, targets, targets.values()))
            return
        for source, target in targets.items():
            self.move(source, target)

    def move(self, source: str, target: str) -> None:
        """Move a file inside the store, replacing what is there."""
        if self.local_root is None:
            fs, base = self._remote
            fs.copy(f"{base}/{self._at(source)}", f"{base}/{self._at(target)}")
            fs.rm_file(f"{base}/{self._at(source)}")
            return
        origin, destination = f"{self.local_root}/{self._at(source)}", f"{self.local_root}/{self._at(target)}"
        try:
            os.replace(origin, destination)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(destination), exist_ok=True)
            os.replace(origin, destination)

    def sync(self, folders: Iterable[str]) -> None:
        """Make the moves into these folders durable; an object store's puts are so already."""
        if self.local_root is not None:
            for folder in sorted(set(folders)):
                fsync_folder(self.local_root / self._at(folder))

    def delete(self, path: str) -> None:
        """Delete a file or a folder with all it holds; nothing happens where there is none."""
        if self.local_root is not None:
            target = self.local_root / self._at(path)
            if target.is_dir():
                shutil.rmtree(target, ignore_errors=True)
            else:
                target.unlink(missing_ok=True)
            return
        fs, base = self._remote
        with contextlib.suppress(FileNotFoundError):
            fs.rm(f"{base}/{self._at(path)}", recursive=True)

    @contextlib.contextmanager
    def local_copy(self, path: str) -> Iterator[Path]:
        """A local path with the file's content: the file itself on a local disk, else a copy for the time being."""
        if self.local_root is not None:
            yield self.local_root / self._at(path)
            return
        fs, base = self._remote
        with tempfile.TemporaryDirectory(prefix="laion-assets-") as folder:
            copy = Path(folder) / path.rsplit("/", 1)[-1]
            fs.get_file(f"{base}/{self._at(path)}", str(copy))
            yield copy

    @staticmethod
    def _temporary_beside(target: Path, content: bytes, durable: bool) -> Path:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        with temporary.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        return temporary


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable (POSIX: a rename is, once its folder is synced)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_disk_of(folder: Path) -> None:
    """Make everything written to the folder's file system durable: syncfs(2), where there is none sync(2)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(folder))
    except AttributeError:
        os.sync()
    finally:
        os.close(descriptor)
