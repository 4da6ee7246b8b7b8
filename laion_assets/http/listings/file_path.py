"""Paths that a source's names may take below `raw_csv/`: never out of it, and no two that a disk takes for one."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable

MAX_NAME_BYTES = 200
"""File systems take 255; staging and partial names need some of it."""
MAX_PATH_BYTES = 1_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\\ufffd]")


def is_safe(path: str) -> bool:
    """Whether a decoded path names a file or folder strictly below the one it is relative to, on any file system.

    Refused: empty parts (and so absolute paths), `.`, `..`, backslashes, NUL and other control characters, text that
    is no UTF-8, names of more than 200 and paths of more than 1,000 bytes.
    """
    if _CONTROL.search(path):
        return False
    try:
        if len(path.encode()) > MAX_PATH_BYTES:
            return False
    except UnicodeEncodeError:
        return False
    return all(part not in ("", ".", "..") and len(part.encode()) <= MAX_NAME_BYTES for part in path.split("/"))


def folders_of(paths: Iterable[str]) -> set[str]:
    """Every folder that one of the paths lies in, at any depth."""
    folders: set[str] = set()
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent and parent not in folders:
            folders.add(parent)
            parent = parent.rpartition("/")[0]
    return folders


def distinct_paths(paths: Iterable[str]) -> dict[str, str]:
    """Where each of the paths goes: to itself, or beside it where it collides with another.

    Paths collide if they differ only by case or Unicode normalisation (a disk may not tell them apart), or if one is
    a file and the other a folder. The first in order keeps the name that it may; the others get eight digits of their
    md5: `a.csv` becomes `a~0cc175b9.csv`.
    """
    ordered = sorted(set(paths))
    taken = {_key(folder) for folder in folders_of(ordered)}
    places: dict[str, str] = {}
    for path in ordered:
        place = path if _key(path) not in taken else marked(path, path)
        taken.add(_key(place))
        places[path] = place
    return places


def marked(path: str, identity: str) -> str:
    """The path with eight digits of the identity's md5 before the suffixes of its name."""
    folder, slash, name = path.rpartition("/")
    stem, dot, suffixes = name.partition(".")
    return f"{folder}{slash}{stem}~{hashlib.md5(identity.encode()).hexdigest()[:8]}{dot}{suffixes}"


def _key(path: str) -> str:
    return path.lower() if path.isascii() else unicodedata.normalize("NFC", path).casefold()
