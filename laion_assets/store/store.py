"""A dataset's folder on a local disk or an object store, with the few operations that commits need.

Atomic replacement and exclusive creation are what the rest relies on: on a local disk they are rename and link, on an
object store a put and a conditional put (`If-None-Match: *`, which S3 has had since 2024).

Every path passes `Store._at`, which refuses what leads out of the store; on a local disk no symbolic link below the
store's folder is followed (`store/local_files.py`).
"""

import contextlib
import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, cast

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import StoreError
from laion_assets.store.local_files import (
    fsync_folder,
    kind_of,
    make_folder,
    not_a_file,
    open_regular,
    read_regular,
    refuse_links,
    remove,
    replace,
    sync_disk_of,
    too_large,
    write_beside,
)
from laion_assets.store.paths import checked_path

SHARED = frozenset(("raw_csv", "published_parquet", "dedup_parquet", "dedup_rejects", "image_shards"))
"""The artefacts that a subset has in common with the whole."""
_BOOKS = frozenset(("manifests", "leases", "staging"))
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
        """Where a path of this store lies below `url`. Raises StoreError for a path that leads out of it."""
        checked_path(path)
        if not self.subset:
            return path
        first, _, rest = path.partition("/")
        artefact = rest.partition("/")[0] if first in _BOOKS else first
        return path if artefact in SHARED else f"subsets/{self.subset}/{path}"

    def _local(self, path: str, *, is_folder: bool = False, checked: set[str] | None = None) -> str:
        """Return the path on the local disk, for a change. Raises StoreError if a symbolic link is on the way to it.

        `checked` are folders that were checked for the same batch of files: each is checked once for a batch.
        """
        at = self._at(path)
        folder = at if is_folder else at.rpartition("/")[0]
        if checked is None:
            refuse_links(str(self._local_base), folder)
        elif folder not in checked and refuse_links(str(self._local_base), folder):
            checked.add(folder)
        return f"{self._local_base}/{at}"

    def _local_read(self, path: str) -> str:
        """As `_local`, for reading: a folder is looked at once for each Store value; a status reads 160,000 files."""
        at = self._at(path) if self.subset else checked_path(path)
        folder = at.rpartition("/")[0]
        if folder not in self._seen_folders and refuse_links(str(self._local_base), folder):
            self._seen_folders.add(folder)
        return f"{self._local_base}/{at}"

    @cached_property
    def _seen_folders(self) -> set[str]:
        """Folders on the local disk that were there, and no symbolic links."""
        return set()

    def local_path(self, path: str) -> Path | None:
        """The path on a local disk, None where the store is not on one. Raises StoreError as every change does."""
        return None if self.local_root is None else Path(self._local(path, is_folder=True))

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
        return f"{self.url.rstrip('/')}/{self._at(path)}" if path else self.url

    @cached_property
    def _local_base(self) -> str | None:
        """`local_root` as text: joining texts is ten times as fast as joining paths, and a status joins 160,000."""
        return None if self.local_root is None else str(self.local_root)

    def read_bytes(self, path: str, limit: int | None = None) -> bytes:
        """The file's content. Raises FileNotFoundError, and StoreError where it is not a file or over `limit` bytes."""
        if self._local_base is not None:
            return read_regular(self._local_read(path), limit)
        fs, base = self._remote
        where = f"{base}/{self._at(path)}"
        if limit is None:
            return cast(bytes, fs.cat_file(where))
        try:
            content = cast(bytes, fs.cat_file(where, start=0, end=limit + 1))
        except OSError as error:
            if error.errno == errno.EINVAL and self.size(path) == 0:  # S3 has no range of an empty object.
                return b""
            raise
        if len(content) > limit:
            raise StoreError(too_large(self.address(path), self.size(path) or len(content), limit))
        return content

    def open(self, path: str) -> IO[bytes]:
        """The file, open for reading at random positions. Raises FileNotFoundError, and StoreError for no file."""
        if self._local_base is not None:
            return open(self._local_read(path), "rb", opener=lambda name, _: open_regular(name))
        fs, base = self._remote
        return cast(IO[bytes], fs.open(f"{base}/{self._at(path)}", "rb"))

    def size(self, path: str) -> int | None:
        """The file's size in bytes, None where there is no such file; `problem_at` says what is there instead."""
        try:
            if self._local_base is not None:
                found = os.lstat(self._local_read(path))
                return found.st_size if stat.S_ISREG(found.st_mode) else None
            fs, base = self._remote
            return cast(int, fs.info(f"{base}/{self._at(path)}")["size"])
        except (FileNotFoundError, NotADirectoryError):
            return None

    def problem_at(self, path: str) -> str:
        """Why `size` found no file: it is missing, or something else is in its place."""
        kind = kind_of(self._local_read(path)) if self._local_base is not None else "missing"
        return f"{self.address(path)} is {kind}{'' if kind == 'missing' else ' and not a file'}"

    def check_targets(self, paths: Iterable[str]) -> None:
        """Raise StoreError if a file cannot be moved to a path: a link is on the way, or a folder or pipe is there."""
        if self._local_base is not None:
            checked: set[str] = set()
            for path in paths:
                target = self._local(path, checked=checked)
                if kind_of(target) not in ("missing", "a file", "a symbolic link"):
                    raise not_a_file(target)

    def taken(self, paths: Iterable[str]) -> list[str]:
        """Those of the paths at which anything is."""
        paths = list(paths)
        if self._local_base is not None:
            return self._taken_locally(paths)
        if len(paths) < _LISTED_FROM:
            return [path for path in paths if self.is_taken(path)]
        sizes = self.sizes(paths)
        return [path for path in paths if sizes[path] is not None]

    def _taken_locally(self, paths: Iterable[str]) -> list[str]:
        """Those of the paths at which anything is. Looks at each folder once: a missing folder holds nothing."""
        base, missing, taken = str(self._local_base), set[str](), list[str]()
        for path in paths:
            at = self._at(path)
            folder = at.rpartition("/")[0]
            if folder not in self._seen_folders and folder not in missing:
                (self._seen_folders if refuse_links(base, folder) else missing).add(folder)
            if folder not in missing and os.path.lexists(f"{base}/{at}"):
                taken.append(path)
        return taken

    def is_taken(self, path: str) -> bool:
        """Whether anything is at the path, be it a file, a folder or a link."""
        if self._local_base is not None:
            return os.path.lexists(self._local_read(path))
        return self.size(path) is not None

    def sizes(self, paths: Iterable[str]) -> dict[str, int | None]:
        """The size of each file, None where there is none; an object store is asked a listing a thousand files."""
        if (base := self._local_base) is not None:
            seen, sizes = self._seen_folders, dict[str, int | None]()
            for path in paths:  # As `size`, without its calls: a status asks for 120,000.
                at = self._at(path) if self.subset else checked_path(path)
                if at.rpartition("/")[0] not in seen:
                    sizes[path] = self.size(path)
                    continue
                try:
                    found_at = os.lstat(f"{base}/{at}")
                    sizes[path] = found_at.st_size if stat.S_ISREG(found_at.st_mode) else None
                except (FileNotFoundError, NotADirectoryError):
                    sizes[path] = None
            return sizes
        paths = list(paths)
        if len(paths) < _LISTED_FROM:
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
                return sorted(os.listdir(self._local(folder, is_folder=True)))
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
        target = Path(self._local(path))
        temporary = write_beside(target, content, durable)
        try:
            replace(str(temporary), str(target))
        except StoreError:
            temporary.unlink()
            raise
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
        target = Path(self._local(path))
        temporary = write_beside(target, content, durable=False)
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

    def _move_local(self, source: Path, path: str, checked: set[str] | None = None) -> Path:
        target = Path(self._local(path, checked=checked))
        make_folder(str(target.parent))
        try:
            replace(str(source), str(target))
        except OSError:  # From another disk.
            temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
            shutil.copyfile(source, temporary)
            replace(str(temporary), str(target))
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
            base, checked = self._local_base, set[str]()
            for path, source in sources.items():
                if str(source) != f"{base}/{self._at(path)}":
                    self._move_local(source, path, checked)
            sync_disk_of(self.local_root)

    def move_all(self, targets: Mapping[str, str]) -> None:
        """Move many files inside the store, each to its new path, replacing what is there."""
        if self.local_root is None:
            with ThreadPoolExecutor(_PARALLEL_PUTS, thread_name_prefix="move") as pool:
                list(pool.map(self.move, targets, targets.values()))
            return
        checked: set[str] = set()
        for source, target in targets.items():
            self.move(source, target, checked)

    def move(self, source: str, target: str, checked: set[str] | None = None) -> None:
        """Move a file inside the store, replacing what is there. `checked` are folders that `move_all` has checked."""
        if self.local_root is None:
            fs, base = self._remote
            # Not `copy`, which would take a `*` in a name for a pattern.
            fs.cp_file(f"{base}/{self._at(source)}", f"{base}/{self._at(target)}")
            fs.rm_file(f"{base}/{self._at(source)}")
            return
        origin, destination = self._local(source, checked=checked), self._local(target, checked=checked)
        try:
            replace(origin, destination)
        except FileNotFoundError:
            make_folder(os.path.dirname(destination))
            replace(origin, destination)

    def sync(self, folders: Iterable[str]) -> None:
        """Make the moves into these folders durable; an object store's puts are so already."""
        if self.local_root is not None:
            for folder in sorted(set(folders)):
                fsync_folder(Path(self._local(folder, is_folder=True)))

    def delete(self, path: str) -> None:
        """Delete a file or a folder with all it holds; nothing happens where there is none."""
        if self.local_root is not None:
            remove(self._local(path))
            return
        fs, base = self._remote
        # Not `rm`, which would take a `*` in a name for a pattern.
        with contextlib.suppress(FileNotFoundError), ThreadPoolExecutor(_PARALLEL_PUTS, "delete") as pool:
            list(pool.map(fs.rm_file, fs.find(f"{base}/{self._at(path)}")))

    def delete_file(self, path: str) -> None:
        """Delete a file; nothing happens where there is none, or a folder."""
        if self._local_base is not None:
            with contextlib.suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
                os.unlink(self._local(path))
            return
        fs, base = self._remote
        with contextlib.suppress(FileNotFoundError):
            fs.rm_file(f"{base}/{self._at(path)}")

    @contextlib.contextmanager
    def local_copy(self, path: str) -> Iterator[Path]:
        """A local path with the file's content: the file itself on a local disk, else a copy for the time being."""
        if self.local_root is not None:
            os.close(open_regular(self._local_read(path)))
            yield self.local_root / self._at(path)
            return
        fs, base = self._remote
        with tempfile.TemporaryDirectory(prefix="laion-assets-") as folder:
            copy = Path(folder) / path.rsplit("/", 1)[-1]
            fs.get_file(f"{base}/{self._at(path)}", str(copy))
            yield copy
