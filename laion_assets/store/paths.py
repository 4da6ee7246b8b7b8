"""The paths that a store may access. Every path passes `checked_path`, wherever it comes from.

Someone may have changed a manifest or an intent. A path in it is used only if it is relative, has no part that leads
out of the store, and is in a folder of its asset.
"""

import re
from functools import lru_cache

from laion_assets.errors import StoreError

MAX_PATH_BYTES = 1_000
MAX_NAME_BYTES = 255
_is_relative = re.compile(r"(?:(?!\.{1,2}(?:/|\Z))[^/\\\x00-\x1f\x7f]+(?:/(?!\Z)|\Z))+").fullmatch
_FOLDERS = {
    "dedup_parquet": ("dedup_parquet/", "dedup_rejects/"),
    "dataset_statistics": ("statistics/",),
    "image_statistics": ("statistics/",),
    "dataset_statistics_parts": ("statistics/dataset_statistics_parts/",),
    "image_statistics_parts": ("statistics/image_statistics_parts/",),
}
"""Folders of the assets whose files are not only in a folder with the name of the asset."""


@lru_cache(maxsize=1 << 15)
def checked_path(path: str) -> str:
    """Return the path if it stays inside its base folder on every file system and as an object key.

    A commit passes each path here about nine times; the cache holds the files of an ordinary one.

    Raises StoreError for an empty or absolute path, for parts that are empty, `.` or `..`, for backslashes, control
    characters such as NUL, text that is not UTF-8, and for names or paths that are too long.
    """
    if not _is_relative(path):
        raise StoreError(f"{path[:200]!r} is not a path inside the store. Nothing was read or changed there.")
    if len(path) > 60 or not path.isascii():
        _check_lengths(path)
    return path


def _check_lengths(path: str) -> None:
    try:
        encoded = path.encode()
    except UnicodeEncodeError as error:
        raise StoreError(f"{path[:200]!r} is not a path inside the store: it is not UTF-8.") from error
    if len(encoded) > MAX_PATH_BYTES or max(map(len, encoded.split(b"/"))) > MAX_NAME_BYTES:
        raise StoreError(
            f"{path[:80]!r}... is not a path inside the store: it has {len(encoded)} bytes. A path may have at most "
            f"{MAX_PATH_BYTES:,} bytes, and a name in it {MAX_NAME_BYTES}."
        )


@lru_cache(maxsize=256)
def folders_of_asset(asset: str) -> tuple[str, ...]:
    """Return the folders of the files of an asset, each with a trailing slash. Raises StoreError."""
    if "/" in checked_path(asset):
        raise StoreError(f"{asset[:200]!r} is not the name of an asset.")
    return _FOLDERS.get(asset) or (f"{asset}/",)
