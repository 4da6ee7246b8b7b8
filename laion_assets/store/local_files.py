"""Files of a store on a local disk: symbolic links are never followed, and only regular files are opened.

A link in the place of a file or of a folder would make the store read, overwrite or delete something elsewhere. A named
pipe in the place of a manifest would make it wait without end. Links above the store's own folder are the operator's.
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
    """A descriptor of a regular file, for reading. Raises FileNotFoundError, and StoreError for anything else."""
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
    """The content of a regular file. Raises FileNotFoundError, and StoreError where it has more than `limit` bytes."""
    descriptor = open_regular(path)
    try:
        size = os.fstat(descriptor).st_size
        if limit is not None and size > limit:
            raise StoreError(too_large(path, size, limit))
        content = os.read(descriptor, size + 1)
        if len(content) == size:
            return content
        with os.fdopen(os.dup(descriptor), "rb") as file:  # More than one read gives, or it grew meanwhile.
            file.seek(0)
            return file.read() if limit is None else file.read(limit)
    finally:
        os.close(descriptor)


def too_large(where: str, size: int, limit: int) -> str:
    """What is said of a file over its limit."""
    return f"{where} has {size:,} bytes, and at most {limit:,} are read: this program did not write it. Remove it."


def kind_of(path: str) -> str:
    """What is at a path: `missing`, `a symbolic link`, `a folder`, ..."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "a device")


def not_a_file(path: str) -> StoreError:
    """The refusal of what is not a regular file."""
    return StoreError(
        f"{path} is {kind_of(path)} and not a file, so it was neither read nor changed. Move it away, then "
        "materialize the partition again."
    )


def refuse_links(root: str, folder: str) -> bool:
    """Raise StoreError if one of the folders below `root` on the way to `folder` is a link; whether all are there."""
    at = root
    for part in folder.split("/") if folder else ():
        at = f"{at}/{part}"
        try:
            mode = os.lstat(at).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return False
        if stat.S_ISLNK(mode):
            raise StoreError(
                f"{at} is a symbolic link, and links inside of a store are not followed: a file behind it could lie "
                "anywhere. Replace it by the folder itself, mount the other disk there (mount --bind), or let the "
                "setting `root` name the other disk."
            )
        if not stat.S_ISDIR(mode):
            return False
    return True


def make_folder(folder: str) -> None:
    """Make a folder and those above it. Raises StoreError where one of them is something else."""
    try:
        os.makedirs(folder, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise StoreError(f"{error.filename} is not a folder, and files belong below it. Move it away.") from error


def replace(source: str, target: str) -> None:
    """Move a file over what is at `target`; a link there is replaced, not followed. Raises StoreError for a folder."""
    try:
        os.replace(source, target)
    except (IsADirectoryError, NotADirectoryError) as error:
        raise not_a_file(target) from error


def remove(path: str) -> None:
    """Delete a file, a link (not what it leads to) or a folder with all it holds; nothing where there is none."""
    kind = kind_of(path)
    if kind == "a folder":
        shutil.rmtree(path, ignore_errors=True)
    elif kind != "missing":
        try:
            os.unlink(path)
        except FileNotFoundError:
            return


def write_beside(target: Path, content: bytes, durable: bool) -> Path:
    """Write a new file beside `target`, to be moved over it; `durable` waits for the disk."""
    make_folder(str(target.parent))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    with temporary.open("xb") as file:
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
