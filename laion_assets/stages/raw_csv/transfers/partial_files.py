"""Unfinished downloads in a durable folder, so that a killed fetch resumes.

    journal    append-only, one line per event: download started (of which version), download finished (size, sha256)
    NAME       the bytes of one file: complete or partial, as the file's last line in the journal tells

NAME is the md5 of the file's path, because a path from an untrusted listing must not name a file here. Bytes that a
killed process wrote are safe in the system's cache. Bytes that a crashed machine wrote may be lost: after a reboot,
finished files are hashed again and unfinished ones start from the beginning.
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
from laion_assets.http.urls.target import get_origin
from laion_assets.store.backends.local_files import not_a_file, remove
from laion_assets.store.lease import boot_id
from laion_assets.store.manifest import compute_sha256

_READ_BYTES = 1 << 20
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_JOURNAL = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Origin:
    """A version of a file, as its server describes it.

    `etag` and `last_modified` are header values, empty if not sent. `size` is in bytes, -1 if unknown. `answered_by` is
    the web origin (`https://cdn.test:443`) that sent the response, empty if it is the origin of `url`.
    """

    url: str
    etag: str = ""
    last_modified: str = ""
    size: int = -1
    answered_by: str = ""

    @property
    def fields(self) -> list[str | int]:
        """The values that the journal and the manifest store."""
        known: list[str | int] = [self.url, self.etag, self.last_modified, self.size]
        return [*known, self.answered_by] if self.answered_by else known

    @property
    def version(self) -> str:
        """Entity tag and date, empty if the server sent neither."""
        return f"{self.etag} {self.last_modified}".strip()

    @property
    def conditions(self) -> dict[str, str]:
        """Headers of a conditional request, which is answered by 304 if the file did not change (RFC 9110, 13.1)."""
        etag, last_modified = valid_etag(self.etag), valid_date(self.last_modified)
        headers = {"If-None-Match": etag} if etag else {}
        return headers | ({"If-Modified-Since": last_modified} if last_modified else {})

    @property
    def bound_to(self) -> str:
        """The only web origin that may receive the conditions."""
        return self.answered_by or get_origin(self.url)

    @classmethod
    def of(cls, stored: object) -> "Origin | None":
        """Parse stored `fields`. Returns None for any other value."""
        kinds = [str, str, str, int, str]  # the last one is omitted if empty
        if not isinstance(stored, list) or [type(value) for value in stored] not in (kinds, kinds[:-1]):
            return None
        return cls(*stored)

    def same_as(self, other: "Origin") -> bool:
        """Whether both are the same version. False if the server sent neither an entity tag nor a date."""
        named = bool(self.etag or self.last_modified)
        return named and replace(self, url="", answered_by="") == replace(other, url="", answered_by="")


@dataclass(frozen=True, slots=True)
class Held:
    """A file in the folder, complete if it has a `sha256`. `size` is in bytes.

    `validator` is the value of If-Range with which the download may be resumed, empty if it cannot be.
    """

    origin: Origin
    validator: str
    size: int
    sha256: str = ""


class Download:
    """A file that is being written, and hashed while it is written."""

    __slots__ = ("_descriptor", "_digest", "_is_recorded", "_owner", "_path", "size")

    def __init__(self, owner: "Partials", path: str, descriptor: int, is_noted: bool) -> None:
        self._owner, self._path, self._descriptor, self._is_recorded = owner, path, descriptor, is_noted
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, piece: bytes) -> None:
        """Append bytes. Raises OSError, for example if the disk is full.

        The start is recorded in the journal with the second piece: most files are one piece, and need only the line
        that records their end.
        """
        if self.size and not self._is_recorded:
            self._record_start()
        self._digest.update(piece)
        self.size += len(piece)
        view = memoryview(piece)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def hash_existing(self) -> None:
        """Hash the bytes that the file already has, and continue after them."""
        while piece := os.read(self._descriptor, _READ_BYTES):
            self._digest.update(piece)
            self.size += len(piece)

    def close(self) -> None:
        """Close the file. The download can be resumed later."""
        if not self._is_recorded:
            self._record_start()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def finish(self, origin: Origin) -> Held:
        """Record that the file is complete. It may already be closed."""
        self._is_recorded = True
        self.close()
        return self._owner.record_finish(self._path, Held(origin, "", self.size, self._digest.hexdigest()))

    def _record_start(self) -> None:
        self._is_recorded = True
        self._owner.record_start(self._path)


class Partials:
    """The folder of unfinished downloads. One process at a time has its lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._base = str(folder)
        self._journal = _lock_journal(folder)
        self._held: dict[str, Held] = {}
        self._load()

    def close(self) -> None:
        """Release the lock on the folder."""
        os.close(self._journal)

    def file(self, path: str) -> str:
        """Return the path of a file's bytes."""
        return f"{self._base}/{hashlib.md5(path.encode()).hexdigest()}"

    def held(self, path: str) -> Held | None:
        """Return the usable bytes of a file, None if there are none."""
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
        """Start a file from the beginning, and discard earlier bytes of it."""
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
        """Continue an unfinished file."""
        download = Download(self, path, os.open(self.file(path), os.O_RDWR | os.O_NOFOLLOW), True)
        download.hash_existing()
        return download

    def drop(self, path: str) -> None:
        """Delete the bytes of a file."""
        self._held.pop(path, None)
        self._append_event("drop", path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.file(path))

    def record_start(self, path: str) -> None:
        """Record in the journal which version of a file is being downloaded."""
        held = self._held[path]
        self._append_event("begin", path, held.origin.fields, held.validator)

    def record_finish(self, path: str, held: Held) -> Held:
        """Record in the journal that a file is complete."""
        self._held[path] = held
        self._append_event("whole", path, held.origin.fields, held.size, held.sha256)
        return held

    def clear(self) -> None:
        """Delete all files after they were committed, then the journal and the folder. Only `close` may follow."""
        self._held.clear()
        for name in os.listdir(self.folder):
            if name != "journal":
                os.unlink(f"{self.folder}/{name}")
        os.unlink(self.folder / "journal")
        with contextlib.suppress(OSError):  # another process already uses the folder
            os.rmdir(self.folder)

    def _append_event(self, *event: object) -> None:
        os.write(self._journal, json.dumps(event).encode() + b"\n")

    def _load(self) -> None:
        boot = ""
        with open(os.dup(self._journal), "rb") as journal:
            for line in journal:
                # The last line of a killed process may be truncated. The line feed below ends it.
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
            self._drop_unverified()
        os.write(self._journal, b"\n")
        self._append_event("boot", boot_id())

    def _drop_unverified(self) -> None:
        """After a reboot, keep only complete files with the recorded sha256."""
        for path in list(self._held):
            held = self.held(path)
            if held is not None and held.sha256:
                with open(self.file(path), "rb") as file:
                    if compute_sha256(file) == held.sha256:
                        continue
            self.drop(path)


def _lock_journal(folder: Path) -> int:
    """Open and lock the journal, and return its descriptor.

    Raises LeaseError if another process has the lock, StoreError if the journal is not a regular file. A process that
    clears the folder deletes the journal. So the lock only counts if the path still leads to the locked file.
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
            raise LeaseError(f"Another process is fetching into {folder}. Wait for it, or end it.") from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(journal), os.stat(folder / "journal")):
                return journal
        os.close(journal)
