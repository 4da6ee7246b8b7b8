"""The folder of a dataset on a local disk or an object store, with the few operations that commits need.

Commits rely on atomic replacement and exclusive creation. On a local disk they are rename and link. On an object store
they are a put and a conditional put (`If-None-Match: *`, supported by S3 since 2024).

Every path passes `Store._resolve`, which refuses paths that lead out of the store. On a local disk, no symbolic link
below the folder of the store is followed (`store/local_files.py`).
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
    too_large_message,
    write_beside,
)
from laion_assets.store.paths import checked_path

SHARED = frozenset(("raw_csv", "published_parquet", "dedup_parquet", "dedup_rejects", "image_shards"))
"""The artefacts that a subset shares with the whole dataset."""
_COMMIT_FOLDERS = frozenset(("manifests", "leases", "staging"))
"""Folders of the commit protocol. Each has a folder for every artefact."""
_PARALLEL_PUTS = 32
_MIN_FILES_FOR_LISTING = 32
"""From this number of files on, an object store is listed. Fewer files are looked up one by one."""
_MIN_FILES_FOR_SYNC = 32
"""From this number of files on, the disk is synced once. An fsync for each file would wait for the disk each time."""


@dataclass(frozen=True)
class Store:
    """Files by their path relative to `url`, a local path or an fsspec URL. Picklable. Opens its file system lazily."""

    url: str
    subset: str = ""
    """The name of the subset. Files that it does not share with the whole dataset are below `subsets/NAME/`."""

    @classmethod
    def of(cls, dataset: Dataset) -> "Store":
        """Return the store of a dataset: the folder `root/name`. A subset uses the folder of the whole dataset."""
        return cls(f"{dataset.root.rstrip('/')}/{dataset.folder}", dataset.name if dataset.part_of else "")

    def _resolve(self, path: str) -> str:
        """Return a path of this store relative to `url`. Raises StoreError for a path that leads out of it."""
        checked_path(path)
        if not self.subset:
            return path
        first, _, rest = path.partition("/")
        artefact = rest.partition("/")[0] if first in _COMMIT_FOLDERS else first
        return path if artefact in SHARED else f"subsets/{self.subset}/{path}"

    def _local_target(self, path: str, *, is_folder: bool = False, checked: set[str] | None = None) -> str:
        """Return the local path for a write. Raises StoreError if one of its folders is a symbolic link.

        `checked` are folders that were checked for the same batch of files: each is checked once for a batch.
        """
        at = self._resolve(path)
        folder = at if is_folder else at.rpartition("/")[0]
        if checked is None:
            refuse_links(str(self._local_base), folder)
        elif folder not in checked and refuse_links(str(self._local_base), folder):
            checked.add(folder)
        return f"{self._local_base}/{at}"

    def _local_source(self, path: str) -> str:
        """Return the local path for a read. Checks each folder once per Store value: a status reads 160,000 files."""
        at = self._resolve(path) if self.subset else checked_path(path)
        folder = at.rpartition("/")[0]
        if folder not in self._seen_folders and refuse_links(str(self._local_base), folder):
            self._seen_folders.add(folder)
        return f"{self._local_base}/{at}"

    @cached_property
    def _seen_folders(self) -> set[str]:
        """Local folders that were checked: they exist and are not symbolic links."""
        return set()

    def local_path(self, path: str) -> Path | None:
        """Return the path on the local disk, None if the store is not on one. Raises StoreError for a link in it."""
        return None if self.local_root is None else Path(self._local_target(path, is_folder=True))

    @cached_property
    def local_root(self) -> Path | None:
        """The folder if the store is on a local disk, else None."""
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
        """Return the full path or URL of a file, for messages and for libraries that take URLs."""
        return f"{self.url.rstrip('/')}/{self._resolve(path)}" if path else self.url

    @cached_property
    def _local_base(self) -> str | None:
        """`local_root` as text. Joining strings is ten times as fast as joining paths, and a status joins 160,000."""
        return None if self.local_root is None else str(self.local_root)

    def read_bytes(self, path: str, limit: int | None = None) -> bytes:
        """Read a file. Raises FileNotFoundError, and StoreError if it is not a file or has more than `limit` bytes."""
        if self._local_base is not None:
            return read_regular(self._local_source(path), limit)
        fs, base = self._remote
        where = f"{base}/{self._resolve(path)}"
        if limit is None:
            return cast(bytes, fs.cat_file(where))
        try:
            content = cast(bytes, fs.cat_file(where, start=0, end=limit + 1))
        except OSError as error:
            if error.errno == errno.EINVAL and self.size(path) == 0:  # S3 has no range of an empty object
                return b""
            raise
        if len(content) > limit:
            raise StoreError(too_large_message(self.address(path), self.size(path) or len(content), limit))
        return content

    def open(self, path: str) -> IO[bytes]:
        """Open a file for random reads. Raises FileNotFoundError, and StoreError if it is not a file."""
        if self._local_base is not None:
            return open(self._local_source(path), "rb", opener=lambda name, _: open_regular(name))
        fs, base = self._remote
        return cast(IO[bytes], fs.open(f"{base}/{self._resolve(path)}", "rb"))

    def size(self, path: str) -> int | None:
        """Return the size of a file in bytes, None if there is no file. `problem_at` describes other objects."""
        try:
            if self._local_base is not None:
                status = os.lstat(self._local_source(path))
                return status.st_size if stat.S_ISREG(status.st_mode) else None
            fs, base = self._remote
            return cast(int, fs.info(f"{base}/{self._resolve(path)}")["size"])
        except (FileNotFoundError, NotADirectoryError):
            return None

    def problem_at(self, path: str) -> str:
        """Return why `size` found no file: it is missing, or something else is in its place."""
        kind = kind_of(self._local_source(path)) if self._local_base is not None else "missing"
        return f"{self.address(path)} is {kind}{'' if kind == 'missing' else ' and not a file'}"

    def check_targets(self, paths: Iterable[str]) -> None:
        """Raise StoreError if no file can be moved to a path, because a link, folder or pipe is in the way."""
        if self._local_base is not None:
            checked: set[str] = set()
            for path in paths:
                target = self._local_target(path, checked=checked)
                if kind_of(target) not in ("missing", "a file", "a symbolic link"):
                    raise not_a_file(target)

    def find_existing(self, paths: Iterable[str]) -> list[str]:
        """Return those of the paths that exist."""
        paths = list(paths)
        if self._local_base is not None:
            return self._find_existing_locally(paths)
        if len(paths) < _MIN_FILES_FOR_LISTING:
            return [path for path in paths if self.exists(path)]
        sizes = self.sizes(paths)
        return [path for path in paths if sizes[path] is not None]

    def _find_existing_locally(self, paths: Iterable[str]) -> list[str]:
        """Return those of the paths that exist. Checks each folder once: a missing folder has no files."""
        base, missing, found = str(self._local_base), set[str](), list[str]()
        for path in paths:
            at = self._resolve(path)
            folder = at.rpartition("/")[0]
            if folder not in self._seen_folders and folder not in missing:
                (self._seen_folders if refuse_links(base, folder) else missing).add(folder)
            if folder not in missing and os.path.lexists(f"{base}/{at}"):
                found.append(path)
        return found

    def exists(self, path: str) -> bool:
        """Whether a file, folder or link is at the path."""
        if self._local_base is not None:
            return os.path.lexists(self._local_source(path))
        return self.size(path) is not None

    def sizes(self, paths: Iterable[str]) -> dict[str, int | None]:
        """Return the size of each file, None if it is missing. An object store is listed if there are many files."""
        if (base := self._local_base) is not None:
            seen, sizes = self._seen_folders, dict[str, int | None]()
            for path in paths:  # as `size`, without its calls: a status looks up 120,000 files
                at = self._resolve(path) if self.subset else checked_path(path)
                if at.rpartition("/")[0] not in seen:
                    sizes[path] = self.size(path)
                    continue
                try:
                    status = os.lstat(f"{base}/{at}")
                    sizes[path] = status.st_size if stat.S_ISREG(status.st_mode) else None
                except (FileNotFoundError, NotADirectoryError):
                    sizes[path] = None
            return sizes
        paths = list(paths)
        if len(paths) < _MIN_FILES_FOR_LISTING:
            return {path: self.size(path) for path in paths}
        fs, base = self._remote
        found: dict[str, int] = {}
        for top in {self._resolve(path).removesuffix(path) + path.partition("/")[0] for path in paths}:
            with contextlib.suppress(FileNotFoundError):
                listed = fs.find(f"{base}/{top}", detail=True)
                found |= {name.removeprefix(f"{base}/"): info["size"] for name, info in listed.items()}
        return {path: found.get(self._resolve(path)) for path in paths}

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of the files and folders in `folder`. Empty if there is no such folder."""
        try:
            if self.local_root is not None:
                return sorted(os.listdir(self._local_target(folder, is_folder=True)))
            fs, base = self._remote
            return sorted(
                entry.rstrip("/").rsplit("/", 1)[-1] for entry in fs.ls(f"{base}/{self._resolve(folder)}", detail=False)
            )
        except (FileNotFoundError, NotADirectoryError):
            return []

    def write_bytes(self, path: str, content: bytes, *, durable: bool = True) -> None:
        """Replace a file atomically: a reader gets the old content or the new, never a part.

        `durable` waits for the disk, so that this also holds after a power loss. Files that only live processes read
        do not need it.
        """
        if self.local_root is None:
            fs, base = self._remote
            fs.pipe_file(f"{base}/{self._resolve(path)}", content)
            return
        target = Path(self._local_target(path))
        temporary = write_beside(target, content, durable)
        try:
            replace(str(temporary), str(target))
        except StoreError:
            temporary.unlink()
            raise
        if durable:
            fsync_folder(target.parent)

    def create(self, path: str, content: bytes) -> bool:
        """Create a file if it does not exist, and return whether this call created it. Not durable."""
        if self.local_root is None:
            fs, base = self._remote
            try:
                fs.pipe_file(f"{base}/{self._resolve(path)}", content, mode="create")
            except FileExistsError:
                return False
            return True
        target = Path(self._local_target(path))
        temporary = write_beside(target, content, durable=False)
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def move_in(self, source: Path, path: str) -> None:
        """Move a local file into the store, durably. Replaces what is there."""
        if self.local_root is None:
            fs, base = self._remote
            fs.put_file(str(source), f"{base}/{self._resolve(path)}")
            source.unlink()
            return
        with self._move_local(source, path).open("rb") as file:
            os.fsync(file.fileno())

    def _move_local(self, source: Path, path: str, checked: set[str] | None = None) -> Path:
        target = Path(self._local_target(path, checked=checked))
        make_folder(str(target.parent))
        try:
            replace(str(source), str(target))
        except OSError:  # the source is on another disk
            temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
            shutil.copyfile(source, temporary)
            replace(str(temporary), str(target))
            source.unlink()
        return target

    def move_all_in(self, sources: Mapping[str, Path]) -> None:
        """Move local files into the store, by their new path. Puts run in parallel, a local disk is synced once."""
        if self.local_root is None:
            with ThreadPoolExecutor(_PARALLEL_PUTS, thread_name_prefix="put") as pool:
                list(pool.map(self.move_in, sources.values(), sources))
        elif len(sources) < _MIN_FILES_FOR_SYNC:
            for path, source in sources.items():
                self.move_in(source, path)
        else:
            base, checked = self._local_base, set[str]()
            for path, source in sources.items():
                if str(source) != f"{base}/{self._resolve(path)}":
                    self._move_local(source, path, checked)
            sync_disk_of(self.local_root)

    def move_all(self, targets: Mapping[str, str]) -> None:
        """Move files inside the store, each to its new path. Replaces what is there."""
        if self.local_root is None:
            with ThreadPoolExecutor(_PARALLEL_PUTS, thread_name_prefix="move") as pool:
                list(pool.map(self.move, targets, targets.values()))
            return
        checked: set[str] = set()
        for source, target in targets.items():
            self.move(source, target, checked)

    def move(self, source: str, target: str, checked: set[str] | None = None) -> None:
        """Move a file inside the store. Replaces what is there. `checked` are folders that `move_all` has checked."""
        if self.local_root is None:
            fs, base = self._remote
            # Not `copy`: it reads a `*` in a name as a pattern.
            fs.cp_file(f"{base}/{self._resolve(source)}", f"{base}/{self._resolve(target)}")
            fs.rm_file(f"{base}/{self._resolve(source)}")
            return
        origin, destination = self._local_target(source, checked=checked), self._local_target(target, checked=checked)
        try:
            replace(origin, destination)
        except FileNotFoundError:
            make_folder(os.path.dirname(destination))
            replace(origin, destination)

    def sync(self, folders: Iterable[str]) -> None:
        """Make the moves into these folders durable. Puts of an object store already are."""
        if self.local_root is not None:
            for folder in sorted(set(folders)):
                fsync_folder(Path(self._local_target(folder, is_folder=True)))

    def delete(self, path: str) -> None:
        """Delete a file, or a folder with its content. Does nothing if the path is missing."""
        if self.local_root is not None:
            remove(self._local_target(path))
            return
        fs, base = self._remote
        # Not `rm`: it reads a `*` in a name as a pattern.
        with contextlib.suppress(FileNotFoundError), ThreadPoolExecutor(_PARALLEL_PUTS, "delete") as pool:
            list(pool.map(fs.rm_file, fs.find(f"{base}/{self._resolve(path)}")))

    def delete_file(self, path: str) -> None:
        """Delete a file. Does nothing if it is missing or a folder."""
        if self._local_base is not None:
            with contextlib.suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
                os.unlink(self._local_target(path))
            return
        fs, base = self._remote
        with contextlib.suppress(FileNotFoundError):
            fs.rm_file(f"{base}/{self._resolve(path)}")

    @contextlib.contextmanager
    def local_copy(self, path: str) -> Iterator[Path]:
        """Return a local path of a file: the file itself on a local disk, else a copy while the body runs."""
        if self.local_root is not None:
            os.close(open_regular(self._local_source(path)))
            yield self.local_root / self._resolve(path)
            return
        fs, base = self._remote
        with tempfile.TemporaryDirectory(prefix="laion-assets-") as folder:
            copy = Path(folder) / path.rsplit("/", 1)[-1]
            fs.get_file(f"{base}/{self._resolve(path)}", str(copy))
            yield copy
