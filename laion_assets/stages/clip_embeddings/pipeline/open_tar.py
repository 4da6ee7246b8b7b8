"""Opening a tar that was verified before, by its name, without taking another file for it."""

import mmap
import os
from pathlib import Path

from laion_assets.errors import IntegrityError


def file_identity(descriptor: int) -> tuple[int, ...]:
    """What tells an open file from another one that has taken its name, or from itself after a change."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def open_tar(path: Path, identity: tuple[int, ...]) -> mmap.mmap:
    """The tar's content, mapped read-only. Raises IntegrityError if it is not the file of this identity."""
    try:
        with path.open("rb") as file:
            if file_identity(file.fileno()) == identity:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        pass
    raise IntegrityError(f"{path} was replaced while it was read. Run this partition of clip_embeddings again.")
