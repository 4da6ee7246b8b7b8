"""Leases: at most one process commits a partition at a time, and the lease of a dead process can be taken over.

    leases/ASSET/KEY/000007    while held: {"holder": ..., "host": ..., "has_moved_files": ...}
                               released:   {"has_moved_files": ...}

A lease is a numbered file, created exclusively. The holder is the process that created the highest number. A process
that finds the highest number released, or its holder dead, creates the next number. Numbers are never reused, so a slow
contender cannot win with an old number. A released lease stays as a tombstone until the next one replaces it. It
records whether files of the partition were ever moved into place. Leases do not wait for the disk: a power loss that
deletes them also ends their holders.
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
"""A lease held on another host expires after this time. A commit only moves finished files and takes seconds."""
_POLL_S = 0.2
_MAX_BYTES = 4_096
_MAX_NUMBER = 10**12 - 1
_is_number = re.compile("[0-9]{6,12}").fullmatch
_match_holder = re.compile("([0-9a-f]+)-([0-9a-z]+)-([0-9]{1,9})-([0-9.]{0,20})-([0-9]{1,12})").fullmatch
_ACTIVE: set[str] = set()
"""Tokens of the leases and transactions that are active in this process. Others with its id were left by failures."""


@dataclass
class Lease:
    """A held lease. `has_moved_files` is set before files of the partition are moved, and is kept by later leases."""

    number: int
    has_moved_files: bool


@dataclass(frozen=True)
class _LeaseFile:
    """The highest lease of a partition: its number (0 if there is none), and its holder (empty if released)."""

    number: int
    holder: str = ""
    host: str = ""
    has_moved_files: bool = False


@contextlib.contextmanager
def lease(store: Store, asset: str, key: str, wait_s: float = 60.0) -> Iterator[Lease]:
    """Hold the lease of a partition while the body runs.

    Raises LeaseError if a live holder keeps it for longer than `wait_s`, StoreError if a lease is not a file.
    """
    folder = f"leases/{asset}/{key}"
    deadline = time.monotonic() + wait_s
    with _activate_token() as token:
        held = _wait_for_lease(store, folder, token, f"{asset} {key}", deadline)
        try:
            yield held
        finally:
            released = json.dumps({"has_moved_files": held.has_moved_files}).encode()
            store.write_bytes(f"{folder}/{held.number:06d}", released, durable=False)


def has_moved_files(store: Store, asset: str, key: str) -> bool:
    """Whether this program may ever have moved files of the partition into place."""
    return _read_highest(store, f"leases/{asset}/{key}").has_moved_files


def _wait_for_lease(store: Store, folder: str, token: str, partition: str, deadline: float) -> Lease:
    while (held := _try_lease(store, folder, token)) is None:
        if time.monotonic() > deadline:
            current = _read_highest(store, folder)
            holder = _Holder.parse(current.holder)
            who = f"process {holder.pid} on {current.host}" if holder else "another process"
            raise LeaseError(
                f"{partition} is being committed by {who}. Wait for it, or end it. "
                f"The lease is in {store.address(folder)}."
            )
        time.sleep(_POLL_S)
    return held


def _try_lease(store: Store, folder: str, token: str) -> Lease | None:
    current = _read_highest(store, folder)
    if is_alive(current.holder):
        return None
    held = Lease(current.number + 1, current.has_moved_files)
    if held.number > _MAX_NUMBER:
        raise LeaseError(
            f"{store.address(folder)} has no free lease number. Remove this folder while no run is active."
        )
    content = {
        "holder": _Holder.this_process(token).name,
        "host": socket.gethostname(),
        "has_moved_files": held.has_moved_files,
    }
    if not store.create(f"{folder}/{held.number:06d}", json.dumps(content).encode()):
        return None
    if _read_highest(store, folder).number != held.number:
        store.delete(f"{folder}/{held.number:06d}")
        return None
    for number in _list_numbers(store, folder):
        if number < held.number:
            store.delete(f"{folder}/{number:06d}")
    return held


def _list_numbers(store: Store, folder: str) -> list[int]:
    """List the numbers of the leases. Other file names are ignored."""
    return [int(name) for name in store.names(folder) if _is_number(name) and f"{int(name):06d}" == name]


def _read_highest(store: Store, folder: str) -> _LeaseFile:
    """Read the highest lease. One that a power loss truncated, or that someone changed, counts as released."""
    number = max(_list_numbers(store, folder), default=0)
    if not number:
        return _LeaseFile(0)
    try:
        fields = parse_object(store.read_bytes(f"{folder}/{number:06d}", _MAX_BYTES))
    except (FileNotFoundError, ValueError):
        return _LeaseFile(number, has_moved_files=True)
    holder, host = (fields.get(name, "") for name in ("holder", "host"))
    if not isinstance(holder, str) or not isinstance(host, str):
        return _LeaseFile(number, has_moved_files=True)
    # A holder that died without releasing the lease may have moved files.
    return _LeaseFile(number, holder, host, bool(holder) or fields.get("has_moved_files") is not False)


@dataclass(frozen=True)
class _Holder:
    """The process that holds a lease or a transaction.

    `token` is random. `machine` identifies the host and its boot, `pid` and `started` the process, `at` the Unix time.
    """

    token: str
    machine: str
    pid: int
    started: str
    at: int

    @classmethod
    def this_process(cls, token: str) -> "_Holder":
        pid = os.getpid()
        return cls(token, _machine_id(), pid, _process_start(pid), int(time.time()))

    @classmethod
    def parse(cls, name: str) -> "_Holder | None":
        """Parse the name of a holder. Returns None if it is not one."""
        match = _match_holder(name)
        if match is None:
            return None
        token, machine, pid, started, at = match.groups()
        return cls(token, machine, int(pid), started, int(at))

    @property
    def name(self) -> str:
        return f"{self.token}-{self.machine}-{self.pid}-{self.started}-{self.at}"

    def may_be_alive(self) -> bool:
        """Whether the process may still be working. On another machine, until its lease expires."""
        if self.machine != _machine_id():
            return abs(time.time() - self.at) <= LEASE_S  # abs: a time in the future would never expire
        if self.pid == os.getpid():
            return self.token in _ACTIVE  # else abandoned, and its release could not be written: the disk was full
        return self.started != "" and _process_start(self.pid) == self.started


@contextlib.contextmanager
def holder_name() -> Iterator[str]:
    """Return a folder name that identifies this process. `is_alive` is true for it while the body runs.

    A folder gets its name when it is created. A file in it that names the process could be missing after a kill.
    """
    with _activate_token() as token:
        yield _Holder.this_process(token).name


def is_alive(name: str) -> bool:
    """Whether the process of a `holder_name` may still be working. False for other names."""
    holder = _Holder.parse(name)
    return holder is not None and holder.may_be_alive()


@contextlib.contextmanager
def _activate_token() -> Iterator[str]:
    token = secrets.token_hex(8)
    _ACTIVE.add(token)
    try:
        yield token
    finally:
        _ACTIVE.discard(token)


def boot_id() -> str:
    """Return the id of the current boot of the machine (Linux). Empty on other systems."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _machine_id() -> str:
    return hashlib.sha256(f"{socket.gethostname()} {boot_id()}".encode()).hexdigest()[:12]


def _process_start(pid: int) -> str:
    """Return the start of a process, in seconds since boot. Empty if there is no such process.

    It distinguishes a process from a later one with the same pid. The time of day would change when the system clock is
    set.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        return f"{process.create_time() - psutil.boot_time():.2f}"
    except psutil.NoSuchProcess:
        return ""
