"""Claims: at most one publisher of a partition at a time, and a dead one's successor can take over.

    leases/ASSET/KEY/000007    {"owner": ..., "host": ..., "has_published": ...}, after it {"has_published": ...}

A claim is a numbered file, created exclusively; the holder of a partition is who created the highest number. Whoever
finds the highest number released, or its owner dead, creates the next one. Numbers are never used again (a released
claim stays as a tombstone until the next one replaces it, and tells whether files of the partition were ever moved),
so a slow contender cannot win with an old number. Claims do not wait for the disk: a loss of power that takes them
takes their owners, too.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from laion_assets.errors import LeaseError
from laion_assets.store.store import Store
from laion_assets.store.stored_json import parse_object

LEASE_S = 900.0
"""A claim from another host counts as abandoned after this; publishing moves finished files and takes seconds."""
_POLL_S = 0.2
_MAX_BYTES = 4_096
_MAX_NUMBER = 10**12 - 1
_is_number = re.compile("[0-9]{6,12}").fullmatch
_owner_name = re.compile("([0-9a-f]+)-([0-9a-z]+)-([0-9]{1,9})-([0-9.]{0,20})-([0-9]{1,12})").fullmatch
_LIVING: set[str] = set()
"""What this process holds now, claims and attempts: others of its name are leftovers of its own failures."""


@dataclass
class Lease:
    """A claim that is held. `has_published` is set before files of the partition are moved, and stays so for ever."""

    number: int
    is_committed: bool


@dataclass(frozen=True)
class _Found:
    """The highest claim of a partition: its number (0 if there is none), and who holds it, if anybody does."""

    number: int
    owner: str = ""
    host: str = ""
    is_committed: bool = False


@contextlib.contextmanager
def lease(store: Store, asset: str, key: str, wait_s: float = 60.0) -> Iterator[Lease]:
    """Hold the partition while the body runs.

    Raises ClaimError when a live owner keeps it for longer than `wait_s`, StoreError where a claim is not a file.
    """
    folder = f"leases/{asset}/{key}"
    deadline = time.monotonic() + wait_s
    with _living() as token:
        yield from _held(store, folder, token, asset, key, deadline)


def is_committed(store: Store, asset: str, key: str) -> bool:
    """Whether files of the partition may have been moved into place at any time, by this program."""
    return _highest(store, f"leases/{asset}/{key}").is_committed


def _held(store: Store, folder: str, token: str, asset: str, key: str, deadline: float) -> Iterator[Lease]:
    while (held := _try_lease(store, folder, token)) is None:
        if time.monotonic() > deadline:
            found = _highest(store, folder)
            owner = _Owner.named(found.owner)
            who = f"process {owner.pid} on {found.host}" if owner else "another process"
            raise LeaseError(
                f"{asset} {key} is being published by {who}: wait for it, or end it; "
                f"the claim is {store.address(folder)}."
            )
        time.sleep(_POLL_S)
    try:
        yield held
    finally:
        released = json.dumps({"has_published": held.is_committed}).encode()
        store.write_bytes(f"{folder}/{held.number:06d}", released, durable=False)


def _try_lease(store: Store, folder: str, token: str) -> Lease | None:
    found = _highest(store, folder)
    if is_alive(found.owner):
        return None
    held = Lease(found.number + 1, found.is_committed)
    if held.number > _MAX_NUMBER:
        raise LeaseError(f"{store.address(folder)} is used up: remove this folder when nothing runs.")
    content = {"owner": _Owner.here(token).name, "host": socket.gethostname(), "has_published": held.is_committed}
    if not store.create(f"{folder}/{held.number:06d}", json.dumps(content).encode()):
        return None
    if _highest(store, folder).number != held.number:
        store.delete(f"{folder}/{held.number:06d}")
        return None
    for number in _numbers(store, folder):
        if number < held.number:
            store.delete(f"{folder}/{number:06d}")
    return held


def _numbers(store: Store, folder: str) -> list[int]:
    """The numbers of the claims; names that are not a claim's are left alone."""
    return [int(name) for name in store.names(folder) if _is_number(name) and f"{int(name):06d}" == name]


def _highest(store: Store, folder: str) -> _Found:
    """The highest claim. A claim that was torn by a loss of power, or changed by somebody, is held by nobody."""
    number = max(_numbers(store, folder), default=0)
    if not number:
        return _Found(0)
    try:
        fields = parse_object(store.read_bytes(f"{folder}/{number:06d}", _MAX_BYTES))
    except (FileNotFoundError, ValueError):
        return _Found(number, is_committed=True)
    owner, host = (fields.get(name, "") for name in ("owner", "host"))
    if not isinstance(owner, str) or not isinstance(host, str):
        return _Found(number, is_committed=True)
    # One that ends with its owner's death may have moved files; claims of earlier versions do not say.
    return _Found(number, owner, host, bool(owner) or fields.get("has_published") is not False)


@dataclass(frozen=True)
class _Owner:
    """Who holds a claim or makes an attempt: the process and the start of the machine it runs on, never used again."""

    token: str
    machine: str
    pid: int
    started: str
    at: int

    @classmethod
    def here(cls, token: str) -> "_Owner":
        pid = os.getpid()
        return cls(token, _machine(), pid, _started(pid), int(time.time()))

    @classmethod
    def named(cls, name: str) -> "_Owner | None":
        """The owner that a name tells of; None where it is no owner's."""
        found = _owner_name(name)
        if found is None:
            return None
        token, machine, pid, started, at = found.groups()
        return cls(token, machine, int(pid), started, int(at))

    @property
    def name(self) -> str:
        return f"{self.token}-{self.machine}-{self.pid}-{self.started}-{self.at}"

    def may_live(self) -> bool:
        """Whether it may still be at work; on another machine, until its lease ends."""
        if self.machine != _machine():
            return abs(time.time() - self.at) <= LEASE_S  # One from the future would never end.
        if self.pid == os.getpid():
            return self.token in _LIVING  # else given up, and that could not be written down: the disk was full
        return self.started != "" and _started(self.pid) == self.started


@contextlib.contextmanager
def living_name() -> Iterator[str]:
    """A name for a folder that says whose it is: this process, alive for as long as the block lasts.

    A folder is there with its name at once; a file in it that names its owner may be left unwritten by a kill.
    """
    with _living() as token:
        yield _Owner.here(token).name


def is_alive(name: str) -> bool:
    """Whether the process that made this name may still be at work; not where it is none of `living_name`'s."""
    owner = _Owner.named(name)
    return owner is not None and owner.may_live()


@contextlib.contextmanager
def _living() -> Iterator[str]:
    token = secrets.token_hex(8)
    _LIVING.add(token)
    try:
        yield token
    finally:
        _LIVING.discard(token)


def boot_id() -> str:
    """What names this start of the machine (Linux); empty where nothing does."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _machine() -> str:
    return hashlib.sha256(f"{socket.gethostname()} {boot_id()}".encode()).hexdigest()[:12]


def _started(pid: int) -> str:
    """Seconds from the machine's start to the process's, empty if there is none: a pid is given to others later.

    Not the time of day: the system clock may be set while the process runs.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        return f"{process.create_time() - psutil.boot_time():.2f}"
    except psutil.NoSuchProcess:
        return ""
