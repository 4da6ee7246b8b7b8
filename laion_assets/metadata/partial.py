"""Downloads in the making, in a durable folder: a killed fetch goes on where it was.

    NAME.part   bytes so far      NAME.json   what they are the beginning of (URL, validator)
    NAME.done   the whole file, finished, not yet published

NAME is the md5 of the file's path, so that no path of a stranger's listing names a file here.
"""

import fcntl
import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from laion_assets.errors import ClaimError


@dataclass(frozen=True)
class Origin:
    """What a server said a file is: `etag` and `last_modified` as sent (empty if not), size in bytes, -1 if unknown."""

    url: str
    etag: str = ""
    last_modified: str = ""
    size: int = -1

    @property
    def validator(self) -> str:
        """What If-Range takes (RFC 9110, 13.1.5): a strong entity tag, else the date; empty if there is none."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified

    @property
    def conditions(self) -> dict[str, str]:
        """Headers that ask for the file only if it is another one by now."""
        headers = {"If-None-Match": self.etag} if self.etag else {}
        return headers | ({"If-Modified-Since": self.last_modified} if self.last_modified else {})

    def same_as(self, other: "Origin") -> bool:
        """Whether both describe one version of the file, as far as the server names versions at all."""
        named = bool(self.etag or self.last_modified)
        return named and replace(self, url="") == replace(other, url="")


class Partials:
    """The folder of downloads in the making; one process at a time holds it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise ClaimError(f"another process is fetching into {folder}: wait for it, or end it.") from error

    def close(self) -> None:
        """Let the next process have the folder."""
        self._lock.close()

    def part(self, path: str) -> Path:
        """Where the bytes of a file are gathered."""
        return self.folder / f"{self._name(path)}.part"

    def done(self, path: str) -> Path:
        """Where a finished file waits for its publication."""
        return self.folder / f"{self._name(path)}.done"

    def origin(self, path: str) -> Origin | None:
        """What the bytes at hand, finished or not, are from."""
        try:
            return Origin(**json.loads(self._record(path).read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def begin(self, path: str, origin: Origin) -> None:
        """Note what the bytes to come are from; earlier ones go."""
        self.drop(path)
        self._write_record(path, origin)

    def finish(self, path: str, origin: Origin) -> None:
        """The file is whole: its bytes are made durable under their final name."""
        with self.part(path).open("rb") as file:
            os.fsync(file.fileno())
        self._write_record(path, origin)
        os.replace(self.part(path), self.done(path))

    def drop(self, path: str) -> None:
        """Forget what there is of a file."""
        for file in (self.part(path), self.done(path), self._record(path)):
            file.unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget everything: all of it was published."""
        for file in self.folder.iterdir():
            if file.suffix in (".part", ".done", ".json", ".new"):
                file.unlink(missing_ok=True)

    def _write_record(self, path: str, origin: Origin) -> None:
        new = self.folder / f"{self._name(path)}.new"
        new.write_text(json.dumps(asdict(origin)))
        os.replace(new, self._record(path))

    def _record(self, path: str) -> Path:
        return self.folder / f"{self._name(path)}.json"

    @staticmethod
    def _name(path: str) -> str:
        return hashlib.md5(path.encode()).hexdigest()
