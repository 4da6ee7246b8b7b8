"""Safe, distinct paths below `raw_csv/` for the names that a source lists."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable

MAX_NAME_BYTES = 200
"""File systems allow 255. Names in the staging folders are longer than the final ones."""
MAX_PATH_BYTES = 1_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\\ufffd]")


def is_safe(path: str) -> bool:
    """Whether a decoded path names a file or folder strictly below its base folder, on any file system.

    Unsafe are empty parts (and so absolute paths), `.`, `..`, backslashes, NUL and other control characters, text that
    is not valid UTF-8, names of more than 200 bytes and paths of more than 1,000 bytes.
    """
    if _CONTROL.search(path):
        return False
    try:
        if len(path.encode()) > MAX_PATH_BYTES:
            return False
    except UnicodeEncodeError:
        return False
    return all(part not in ("", ".", "..") and len(part.encode()) <= MAX_NAME_BYTES for part in path.split("/"))


def collect_folders(paths: Iterable[str]) -> set[str]:
    """Return all folders that contain one of the paths, at any depth."""
    folders: set[str] = set()
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent and parent not in folders:
            folders.add(parent)
            parent = parent.rpartition("/")[0]
    return folders


def distinct_paths(paths: Iterable[str]) -> dict[str, str]:
    """Map each path to a distinct one: to itself, or to a marked path if it collides with another.

    Paths collide if they differ only by case or Unicode normalisation, which some file systems ignore, or if one is a
    file and the other a folder. In sorted order, the first keeps its path. The others get eight digits of their md5:
    `a.csv` becomes `a~0cc175b9.csv`.
    """
    ordered = sorted(set(paths))
    taken = {_collision_key(folder) for folder in collect_folders(ordered)}
    distinct: dict[str, str] = {}
    for path in ordered:
        result = path if _collision_key(path) not in taken else mark_path(path, path)
        taken.add(_collision_key(result))
        distinct[path] = result
    return distinct


def mark_path(path: str, identity: str) -> str:
    """Return the path with eight digits of the md5 of `identity` before the suffixes of its name."""
    folder, slash, name = path.rpartition("/")
    stem, dot, suffixes = name.partition(".")
    return f"{folder}{slash}{stem}~{hashlib.md5(identity.encode()).hexdigest()[:8]}{dot}{suffixes}"


def _collision_key(path: str) -> str:
    return path.lower() if path.isascii() else unicodedata.normalize("NFC", path).casefold()
