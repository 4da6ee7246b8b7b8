"""Which paths a store may touch: every path of a store passes `checked_path`, whoever named it.

Manifests and intents are files that somebody may have changed. A path in them is used only if it is relative, has no
part that leads elsewhere, and lies in a folder of its asset.
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
"""The folders of the assets whose files do not lie in a folder of the asset's name alone."""


def checked_path(path: str) -> str:
    """The path, if it lies below the folder it is relative to on any file system and as an object key.

    Raises StoreError for an empty or absolute path, parts that are empty, `.` or `..`, backslashes, control
    characters (NUL), text that is not UTF-8, and names or paths that are too long.
    """
    if not _is_relative(path):
        raise StoreError(f"{path[:200]!r} is not a path inside of the store: nothing was read or changed there.")
    if len(path) > 60 or not path.isascii():
        _check_lengths(path)
    return path


def _check_lengths(path: str) -> None:
    try:
        encoded = path.encode()
    except UnicodeEncodeError as error:
        raise StoreError(f"{path[:200]!r} is not a path of the store: it is not UTF-8.") from error
    if len(encoded) > MAX_PATH_BYTES or max(map(len, encoded.split(b"/"))) > MAX_NAME_BYTES:
        raise StoreError(
            f"{path[:80]!r}... is not a path of the store: it has {len(encoded)} bytes. A path has at most "
            f"{MAX_PATH_BYTES} bytes, a name in it {MAX_NAME_BYTES}."
        )


@lru_cache(maxsize=256)
def folders_of_asset(asset: str) -> tuple[str, ...]:
    """The folders, each with a slash at its end, in which the files of an asset lie. Raises StoreError."""
    if "/" in checked_path(asset):
        raise StoreError(f"{asset[:200]!r} is not the name of an asset.")
    return _FOLDERS.get(asset) or (f"{asset}/",)
