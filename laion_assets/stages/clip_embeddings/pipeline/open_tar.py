"""Open a tar that was verified before, and verify that it is still the same file."""

import mmap
import os
from pathlib import Path

from laion_assets.errors import IntegrityError


def file_identity(descriptor: int) -> tuple[int, ...]:
    """Identify an open file: another file of the same name, or a changed file, has another identity."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def open_tar(path: Path, identity: tuple[int, ...]) -> mmap.mmap:
    """Map the tar read-only. Raises IntegrityError if it is not the file of this identity."""
    try:
        with path.open("rb") as file:
            if file_identity(file.fileno()) == identity:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        pass
    raise IntegrityError(f"{path} was replaced while it was being read. Run this partition of clip_embeddings again.")
