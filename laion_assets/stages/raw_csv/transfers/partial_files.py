"""Downloads in the making, in a durable folder: a killed fetch goes on where it was.

    journal    one line an event, appended: a file begun (from which version), a file whole (size, sha256)
    NAME       the bytes so far, or all of them: the journal's last line on the file says which

NAME is the md5 of the file's path, so that no path of a stranger's listing names a file here. What a killed process
wrote is in the system's cache and stays right; what a dead machine wrote may not be on its disk: after a reboot whole
files are hashed again and begun ones start again.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from laion_assets.errors import LeaseError
from laion_assets.http.messages.validators import valid_date, valid_etag
from laion_assets.http.urls.target import origin_of
from laion_assets.store.lease import boot_id
from laion_assets.store.local_files import not_a_file, remove
from laion_assets.store.manifest import sha256_of

_READ_BYTES = 1 << 20
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_JOURNAL = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Origin:
    """What a server said a file is: `etag` and `last_modified` as sent (empty if not), size in bytes, -1 if unknown.

    `answered_by` is the origin (`https://cdn.test:443`) that said so, empty if it is the URL's own.
    """

    url: str
    etag: str = ""
    last_modified: str = ""
    size: int = -1
    answered_by: str = ""

    @property
    def fields(self) -> list[str | int]:
        """As the journal and the manifest hold it."""
        known: list[str | int] = [self.url, self.etag, self.last_modified, self.size]
        return [*known, self.answered_by] if self.answered_by else known

    @property
    def conditions(self) -> dict[str, str]:
        """Headers that ask for the file only if it is another one by now."""
        etag, last_modified = valid_etag(self.etag), valid_date(self.last_modified)
        headers = {"If-None-Match": etag} if etag else {}
        return headers | ({"If-Modified-Since": last_modified} if last_modified else {})

    @property
    def bound_to(self) -> str:
        """The only origin that the conditions may be sent to."""
        return self.answered_by or origin_of(self.url)

    @classmethod
    def of(cls, stored: object) -> "Origin | None":
        """The origin from its `fields`, None for anything else."""
        kinds = [str, str, str, int, str]  # the last is left out where it is empty
        if not isinstance(stored, list) or [type(value) for value in stored] not in (kinds, kinds[:-1]):
            return None
        return cls(*stored)

    def same_as(self, other: "Origin") -> bool:
        """Whether both describe one version of the file, as far as the server names versions at all."""
        named = bool(self.etag or self.last_modified)
        return named and replace(self, url="", answered_by="") == replace(other, url="", answered_by="")


@dataclass(frozen=True, slots=True)
class Held:
    """What there is of a file: its origin, bytes, what If-Range takes to go on; `sha256` once it is whole."""

    origin: Origin
    validator: str
    size: int
    sha256: str = ""


class Download:
    """A file being written; hashed on the way."""

    __slots__ = ("_descriptor", "_digest", "_is_noted", "_owner", "_path", "size")

    def __init__(self, owner: "Partials", path: str, descriptor: int, is_noted: bool) -> None:
        self._owner, self._path, self._descriptor, self._is_noted = owner, path, descriptor, is_noted
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, piece: bytes) -> None:
        """Append. Raises OSError (a full disk).

        The journal hears of a file with its second piece: most come in one, and then need one line alone.
        """
        if self.size and not self._is_noted:
            self._note_begun()
        self._digest.update(piece)
        self.size += len(piece)
        view = memoryview(piece)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def take_in(self) -> None:
        """Hash what is there already and go on behind it."""
        while piece := os.read(self._descriptor, _READ_BYTES):
            self._digest.update(piece)
            self.size += len(piece)

    def close(self) -> None:
        """Leave it as it is; it may be resumed."""
        if not self._is_noted:
            self._note_begun()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def finish(self, origin: Origin) -> Held:
        """The file is whole. It may have been closed before."""
        self._is_noted = True
        self.close()
        return self._owner.note_whole(self._path, Held(origin, "", self.size, self._digest.hexdigest()))

    def _note_begun(self) -> None:
        self._is_noted = True
        self._owner.note_begun(self._path)


class Partials:
    """The folder of downloads in the making; one process at a time holds it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._base = str(folder)
        self._journal = _locked_journal(folder)
        self._held: dict[str, Held] = {}
        self._load()

    def close(self) -> None:
        """Let the next process have the folder."""
        os.close(self._journal)

    def file(self, path: str) -> str:
        """Where the bytes of a file are."""
        return f"{self._base}/{hashlib.md5(path.encode()).hexdigest()}"

    def held(self, path: str) -> Held | None:
        """What there is of a file, None if nothing that can be used."""
        held = self._held.get(path)
        if held is None:
            return None
        try:
            found = os.lstat(self.file(path))
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        if held.sha256:
            return held if found.st_size == held.size else None
        return replace(held, size=found.st_size)

    def begin(self, path: str, origin: Origin, validator: str) -> Download:
        """Start a file anew; earlier bytes of it go."""
        name = self.file(path)
        try:
            descriptor = os.open(name, _NEW, 0o644)
        except FileExistsError:
            if not stat.S_ISREG(os.lstat(name).st_mode):
                remove(name)
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
        self._held[path] = Held(origin, validator, 0)
        return Download(self, path, descriptor, False)

    def resume(self, path: str) -> Download:
        """Go on with a file that was begun."""
        download = Download(self, path, os.open(self.file(path), os.O_RDWR | os.O_NOFOLLOW), True)
        download.take_in()
        return download

    def drop(self, path: str) -> None:
        """Forget what there is of a file."""
        self._held.pop(path, None)
        self._note("drop", path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.file(path))

    def note_begun(self, path: str) -> None:
        """Record what the bytes of a file are the beginning of."""
        held = self._held[path]
        self._note("begin", path, held.origin.fields, held.validator)

    def note_whole(self, path: str, held: Held) -> Held:
        """Record that a file is whole."""
        self._held[path] = held
        self._note("whole", path, held.origin.fields, held.size, held.sha256)
        return held

    def clear(self) -> None:
        """All of it was published: the files go, then the journal and the folder. Only `close` may follow."""
        self._held.clear()
        for name in os.listdir(self.folder):
            if name != "journal":
                os.unlink(f"{self.folder}/{name}")
        os.unlink(self.folder / "journal")
        with contextlib.suppress(OSError):  # the next process has begun here already
            os.rmdir(self.folder)

    def _note(self, *event: object) -> None:
        os.write(self._journal, json.dumps(event).encode() + b"\n")

    def _load(self) -> None:
        boot = ""
        with open(os.dup(self._journal), "rb") as journal:
            for line in journal:
                # The last line of a killed process may be cut; the next one then starts in it.
                with contextlib.suppress(ValueError, TypeError, IndexError, RecursionError):
                    kind, name, *rest = json.loads(line)
                    origin = Origin.of(rest[0]) if kind in ("begin", "whole") else None
                    if kind == "begin" and origin is not None and type(rest[1]) is str:
                        self._held[name] = Held(origin, rest[1], 0)
                    elif kind == "whole" and origin is not None and (type(rest[1]), type(rest[2])) == (int, str):
                        self._held[name] = Held(origin, "", rest[1], rest[2])
                    elif kind == "drop":
                        self._held.pop(name, None)
                    elif kind == "boot":
                        boot = name
        if boot != boot_id():
            self._distrust()
        os.write(self._journal, b"\n")
        self._note("boot", boot_id())

    def _distrust(self) -> None:
        """The machine was started anew: keep only what is whole and has its sha256."""
        for path in list(self._held):
            held = self.held(path)
            if held is not None and held.sha256:
                with open(self.file(path), "rb") as file:
                    if sha256_of(file) == held.sha256:
                        continue
            self.drop(path)


def _locked_journal(folder: Path) -> int:
    """The journal's descriptor, whose lock is this process's. Raises ClaimError, and StoreError for what is not a file.

    A process that cleared the folder has removed the journal: one that was opened before is no longer the one to lock.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            journal = os.open(folder / "journal", _JOURNAL, 0o644)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                raise not_a_file(str(folder / "journal")) from error
            raise
        if not stat.S_ISREG(os.fstat(journal).st_mode):
            os.close(journal)
            raise not_a_file(str(folder / "journal"))
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(journal)
            raise LeaseError(f"another process is fetching into {folder}: wait for it, or end it.") from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(journal), os.stat(folder / "journal")):
                return journal
        os.close(journal)
