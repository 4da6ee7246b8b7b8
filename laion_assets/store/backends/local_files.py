"""Files of a store on a local disk. Symbolic links are never followed, and only regular files are opened.

A link in place of a file or folder would make the store read, overwrite or delete something elsewhere. A named pipe in
place of a manifest would block the reader forever. Links above the folder of the store belong to the operator.
"""

import ctypes
import errno
import os
import secrets
import shutil
import stat
from pathlib import Path

from laion_assets.errors import StoreError

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISREG, "a file"),
)


def open_regular(path: str) -> int:
    """Open a regular file for reading and return its descriptor. Raises FileNotFoundError and StoreError."""
    try:
        descriptor = os.open(path, _OPEN)
    except NotADirectoryError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV):
            raise not_a_file(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise not_a_file(path)
    return descriptor


def read_regular(path: str, limit: int | None) -> bytes:
    """Read a regular file. Raises FileNotFoundError, and StoreError for a file of more than `limit` bytes."""
    descriptor = open_regular(path)
    try:
        size = os.fstat(descriptor).st_size
        if limit is not None and size > limit:
            raise StoreError(too_large_message(path, size, limit))
        content = os.read(descriptor, size + 1)
        if len(content) == size:
            return content
        with os.fdopen(os.dup(descriptor), "rb") as file:  # More than one read returns, or the file grew.
            file.seek(0)
            return file.read() if limit is None else file.read(limit)
    finally:
        os.close(descriptor)


def too_large_message(where: str, size: int, limit: int) -> str:
    """Return the error message for a file over its limit."""
    return f"{where} has {size:,} bytes, more than the limit of {limit:,}. This program did not write it. Remove it."


def describe_path(path: str) -> str:
    """Return what is at a path: `missing`, `a symbolic link`, `a folder`, ..."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "a device")


def not_a_file(path: str) -> StoreError:
    """Build the error for a path that is not a regular file."""
    return StoreError(
        f"{path} is {describe_path(path)}, not a file. It was neither read nor changed. Move it away, then materialize "
        "the partition again."
    )


def refuse_links(root: str, folder: str) -> bool:
    """Return whether all folders from `root` down to `folder` exist. Raises StoreError if one of them is a link."""
    at = root
    for part in folder.split("/") if folder else ():
        at = f"{at}/{part}"
        try:
            mode = os.lstat(at).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return False
        if stat.S_ISLNK(mode):
            raise StoreError(
                f"{at} is a symbolic link, and links inside a store are not followed, because they may lead anywhere. "
                "Replace it with the folder itself, mount the other disk there (mount --bind), or set `root` to a "
                "folder on the other disk."
            )
        if not stat.S_ISDIR(mode):
            return False
    return True


def make_folder(folder: str) -> None:
    """Create a folder and its parents. Raises StoreError if one of them is not a folder."""
    try:
        os.makedirs(folder, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise StoreError(f"{error.filename} is not a folder, but files must be stored in it. Move it away.") from error


def replace(source: str, target: str) -> None:
    """Move a file to `target`. A file or link there is replaced. Raises StoreError for a folder there."""
    try:
        os.replace(source, target)
    except (IsADirectoryError, NotADirectoryError) as error:
        raise not_a_file(target) from error


def remove(path: str) -> None:
    """Delete a file, a link (not its target) or a folder with its content. Does nothing if the path is missing."""
    kind = describe_path(path)
    if kind == "a folder":
        shutil.rmtree(path, ignore_errors=True)
    elif kind != "missing":
        try:
            os.unlink(path)
        except FileNotFoundError:
            return


def write_beside(target: Path, content: bytes, durable: bool) -> Path:
    """Write a temporary file next to `target`, to be moved over it. `durable` waits for the disk."""
    make_folder(str(target.parent))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    with temporary.open("xb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    return temporary


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable. POSIX: a rename is durable once its folder is synced."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_disk(folder: Path) -> None:
    """Make everything written to the file system of a folder durable: syncfs(2), or sync(2) where that is missing."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(folder))
    except AttributeError:
        os.sync()
    finally:
        os.close(descriptor)
