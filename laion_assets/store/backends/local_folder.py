"""The files of a store in a folder of a local disk. No symbolic link below the folder is followed."""

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import IO

from laion_assets.store.backends.local_files import (
    describe_path,
    fsync_folder,
    make_folder,
    not_a_file,
    open_regular,
    read_regular,
    refuse_links,
    remove,
    replace,
    sync_disk,
    write_beside,
)

_MIN_FILES_FOR_SYNC = 32
"""From this number of files on, the disk is synced once. An fsync for each file would wait for the disk each time."""


class LocalFolder:
    """Files by their path relative to a folder. The paths were checked by the store (`store/paths.py`)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._base = str(root)
        """Joining strings is ten times as fast as joining paths, and a status joins 160,000."""

    @cached_property
    def _seen(self) -> set[str]:
        """Folders that were checked for a read: they exist and are not symbolic links."""
        return set()

    def _source(self, path: str) -> str:
        """Return the path for a read. Checks each folder once per store: a status reads 160,000 files."""
        folder = path.rpartition("/")[0]
        if folder not in self._seen and refuse_links(self._base, folder):
            self._seen.add(folder)
        return f"{self._base}/{path}"

    def _target(self, path: str, checked: set[str] | None = None) -> str:
        """Return the path for a write. Raises StoreError if one of its folders is a symbolic link.

        `checked` are folders that were checked for the same batch of files: each is checked once for a batch.
        """
        folder = path.rpartition("/")[0]
        if checked is None:
            refuse_links(self._base, folder)
        elif folder not in checked and refuse_links(self._base, folder):
            checked.add(folder)
        return f"{self._base}/{path}"

    def folder(self, path: str) -> Path:
        """Return the local path of a folder. Raises StoreError if it, or a folder above it, is a symbolic link."""
        refuse_links(self._base, path)
        return Path(f"{self._base}/{path}")

    def read_bytes(self, path: str, limit: int | None) -> bytes:
        """Read a file. Raises FileNotFoundError, and StoreError if it is not a file or has more than `limit` bytes."""
        return read_regular(self._source(path), limit)

    def open(self, path: str) -> IO[bytes]:
        """Open a file for random reads. Raises FileNotFoundError, and StoreError if it is not a file."""
        return open(self._source(path), "rb", opener=lambda name, _: open_regular(name))

    def size(self, path: str) -> int | None:
        """Return the size of a file in bytes, None if there is no file."""
        try:
            status = os.lstat(self._source(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def sizes(self, paths: Iterable[str]) -> list[int | None]:
        """Return the size of each file, None if it is missing."""
        base, seen, sizes = self._base, self._seen, list[int | None]()
        for path in paths:  # as `size`, without its calls: a status looks up 120,000 files
            if path.rpartition("/")[0] not in seen:
                sizes.append(self.size(path))
                continue
            try:
                status = os.lstat(f"{base}/{path}")
                sizes.append(status.st_size if stat.S_ISREG(status.st_mode) else None)
            except (FileNotFoundError, NotADirectoryError):
                sizes.append(None)
        return sizes

    def kind(self, path: str) -> str:
        """Return what is at a path: `missing`, `a file`, `a folder`, ..."""
        return describe_path(self._source(path))

    def exist(self, paths: Iterable[str]) -> list[bool]:
        """Whether a file, folder or link is at each path. Checks each folder once: a missing folder has no files."""
        missing, found = set[str](), list[bool]()
        for path in paths:
            folder = path.rpartition("/")[0]
            if folder not in self._seen and folder not in missing:
                (self._seen if refuse_links(self._base, folder) else missing).add(folder)
            found.append(folder not in missing and os.path.lexists(f"{self._base}/{path}"))
        return found

    def check_targets(self, paths: Iterable[str]) -> None:
        """Raise StoreError if no file can be moved to a path, because a link, folder or pipe is in the way."""
        checked, missing = set[str](), set[str]()
        for path in paths:
            folder = path.rpartition("/")[0]
            if folder not in checked and folder not in missing:
                (checked if refuse_links(self._base, folder) else missing).add(folder)
            if folder in missing:
                continue
            target = f"{self._base}/{path}"
            if describe_path(target) not in ("missing", "a file", "a symbolic link"):
                raise not_a_file(target)

    def names(self, path: str) -> list[str]:
        """Return the names in a folder. Raises FileNotFoundError and NotADirectoryError."""
        return os.listdir(self.folder(path))

    def write_bytes(self, path: str, content: bytes, durable: bool) -> None:
        """Replace a file atomically. `durable` waits for the disk."""
        target = Path(self._target(path))
        temporary = write_beside(target, content, durable)
        try:
            replace(str(temporary), str(target))
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if durable:
            fsync_folder(target.parent)

    def create(self, path: str, content: bytes) -> bool:
        """Create a file if it does not exist, and return whether this call created it. Not durable."""
        target = Path(self._target(path))
        temporary = write_beside(target, content, durable=False)
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def move_in(self, source: Path, path: str) -> None:
        """Move a local file into the folder, durably. Replaces what is there."""
        with self._move_in(source, path).open("rb") as file:
            os.fsync(file.fileno())

    def move_all_in(self, sources: Mapping[str, Path]) -> None:
        """Move local files into the folder, by their new path, durably. The disk is synced once for many files."""
        if len(sources) < _MIN_FILES_FOR_SYNC:
            for path, source in sources.items():
                self.move_in(source, path)
            return
        checked: set[str] = set()
        for path, source in sources.items():
            if str(source) != f"{self._base}/{path}":
                self._move_in(source, path, checked)
        sync_disk(self.root)

    def _move_in(self, source: Path, path: str, checked: set[str] | None = None) -> Path:
        target = Path(self._target(path, checked))
        make_folder(str(target.parent))
        try:
            replace(str(source), str(target))
        except OSError:  # the source is on another disk
            temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
            shutil.copyfile(source, temporary)
            replace(str(temporary), str(target))
            source.unlink()
        return target

    def move(self, path: str, new_path: str, checked: set[str] | None = None) -> None:
        """Move a file inside the folder. Replaces what is there. `checked` are folders that `move_all` has checked."""
        source, target = self._target(path, checked), self._target(new_path, checked)
        try:
            replace(source, target)
        except FileNotFoundError:
            make_folder(os.path.dirname(target))
            replace(source, target)

    def move_all(self, targets: Mapping[str, str]) -> None:
        """Move files inside the folder, each to its new path."""
        checked: set[str] = set()
        for path, new_path in targets.items():
            self.move(path, new_path, checked)

    def sync(self, folders: Iterable[str]) -> None:
        """Make the moves into these folders durable."""
        for folder in sorted(set(folders)):
            fsync_folder(self.folder(folder))

    def delete(self, path: str) -> None:
        """Delete a file, or a folder with its content. Does nothing if the path is missing."""
        remove(self._target(path))

    def delete_file(self, path: str) -> None:
        """Delete a file. Does nothing if it is missing or a folder."""
        with contextlib.suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
            os.unlink(self._target(path))

    @contextlib.contextmanager
    def local_copy(self, path: str) -> Iterator[Path]:
        """Return the path of a file. Raises FileNotFoundError, and StoreError if it is not a file."""
        os.close(open_regular(self._source(path)))
        yield self.root / path
