"""The files of a store in an object store, through fsspec.

A put replaces an object atomically and is durable. Exclusive creation is a conditional put (`If-None-Match: *`,
supported by S3 since 2024).
"""

import contextlib
import errno
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import IO, Any, cast

from laion_assets.errors import StoreError
from laion_assets.store.backends.local_files import too_large_message

_PARALLEL_REQUESTS = 32
_MIN_FILES_FOR_LISTING = 32
"""From this number of files on, the store is listed. Fewer files are looked up one by one."""


class ObjectStore:
    """Objects by their key relative to an fsspec URL. Opens its file system lazily."""

    def __init__(self, url: str) -> None:
        self.url = url

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

    def read_bytes(self, path: str, limit: int | None) -> bytes:
        """Read an object. Raises FileNotFoundError, and StoreError if it has more than `limit` bytes."""
        fs, base = self._remote
        if limit is None:
            return cast(bytes, fs.cat_file(f"{base}/{path}"))
        try:
            content = cast(bytes, fs.cat_file(f"{base}/{path}", start=0, end=limit + 1))
        except OSError as error:
            if error.errno == errno.EINVAL and self.size(path) == 0:  # S3 has no range of an empty object
                return b""
            raise
        if len(content) > limit:
            where = f"{self.url.rstrip('/')}/{path}"
            raise StoreError(too_large_message(where, self.size(path) or len(content), limit))
        return content

    def open(self, path: str) -> IO[bytes]:
        """Open an object for random reads. Raises FileNotFoundError."""
        fs, base = self._remote
        return cast(IO[bytes], fs.open(f"{base}/{path}", "rb"))

    def size(self, path: str) -> int | None:
        """Return the size of an object in bytes, None if it is missing."""
        fs, base = self._remote
        try:
            return cast(int, fs.info(f"{base}/{path}")["size"])
        except (FileNotFoundError, NotADirectoryError):
            return None

    def sizes(self, paths: Iterable[str]) -> list[int | None]:
        """Return the size of each object, None if it is missing. Many objects are looked up in a listing."""
        paths = list(paths)
        if len(paths) < _MIN_FILES_FOR_LISTING:
            return [self.size(path) for path in paths]
        fs, base = self._remote
        found: dict[str, int] = {}
        for folder in {_listed_folder(path) for path in paths}:
            with contextlib.suppress(FileNotFoundError):
                listed = fs.find(f"{base}/{folder}", detail=True)
                found |= {name.removeprefix(f"{base}/"): info["size"] for name, info in listed.items()}
        return [found.get(path) for path in paths]

    def kind(self, path: str) -> str:
        """Return what is at a path: `missing` or `a file`."""
        return "missing" if self.size(path) is None else "a file"

    def exist(self, paths: Iterable[str]) -> list[bool]:
        """Whether an object is at each path."""
        return [size is not None for size in self.sizes(paths)]

    def check_targets(self, paths: Iterable[str]) -> None:
        """Do nothing: an object can be put at every key."""

    def names(self, path: str) -> list[str]:
        """Return the names of the objects and folders in a folder. Raises FileNotFoundError."""
        fs, base = self._remote
        return [entry.rstrip("/").rsplit("/", 1)[-1] for entry in fs.ls(f"{base}/{path}", detail=False)]

    def write_bytes(self, path: str, content: bytes, durable: bool) -> None:
        """Replace an object. Always durable."""
        fs, base = self._remote
        fs.pipe_file(f"{base}/{path}", content)

    def create(self, path: str, content: bytes) -> bool:
        """Create an object if it does not exist, and return whether this call created it."""
        fs, base = self._remote
        try:
            fs.pipe_file(f"{base}/{path}", content, mode="create")
        except FileExistsError:
            return False
        return True

    def move_in(self, source: Path, path: str) -> None:
        """Put a local file and delete it."""
        fs, base = self._remote
        fs.put_file(str(source), f"{base}/{path}")
        source.unlink()

    def move_all_in(self, sources: Mapping[str, Path]) -> None:
        """Put local files, by their new key, in parallel, and delete them."""
        with ThreadPoolExecutor(_PARALLEL_REQUESTS, thread_name_prefix="put") as pool:
            list(pool.map(self.move_in, sources.values(), sources))

    def move(self, path: str, new_path: str) -> None:
        """Move an object. Replaces what is there."""
        fs, base = self._remote
        fs.cp_file(f"{base}/{path}", f"{base}/{new_path}")  # not `copy`: it reads a `*` in a name as a pattern
        fs.rm_file(f"{base}/{path}")

    def move_all(self, targets: Mapping[str, str]) -> None:
        """Move objects, each to its new key, in parallel."""
        with ThreadPoolExecutor(_PARALLEL_REQUESTS, thread_name_prefix="move") as pool:
            list(pool.map(self.move, targets, targets.values()))

    def sync(self, folders: Iterable[str]) -> None:
        """Do nothing: puts are durable."""

    def delete(self, path: str) -> None:
        """Delete an object, or all objects below a folder. Does nothing if the path is missing."""
        fs, base = self._remote
        # Not `rm`: it reads a `*` in a name as a pattern.
        with contextlib.suppress(FileNotFoundError), ThreadPoolExecutor(_PARALLEL_REQUESTS, "delete") as pool:
            list(pool.map(fs.rm_file, fs.find(f"{base}/{path}")))

    def delete_file(self, path: str) -> None:
        """Delete an object. Does nothing if it is missing."""
        fs, base = self._remote
        with contextlib.suppress(FileNotFoundError):
            fs.rm_file(f"{base}/{path}")

    @contextlib.contextmanager
    def local_copy(self, path: str) -> Iterator[Path]:
        """Return the path of a local copy, which exists while the body runs. Raises FileNotFoundError."""
        fs, base = self._remote
        with tempfile.TemporaryDirectory(prefix="laion-assets-") as folder:
            copy = Path(folder) / path.rsplit("/", 1)[-1]
            fs.get_file(f"{base}/{path}", str(copy))
            yield copy


def _listed_folder(path: str) -> str:
    """Return the folder to list for an object: the first one of its key, or of its key within a subset or set."""
    parts = path.split("/")
    return "/".join(parts[:3] if parts[0] in ("subsets", "embedding_sets") else parts[:1])
