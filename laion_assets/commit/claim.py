"""Claims: at most one publisher of a partition at a time, and a dead one's successor can take over.

A claim is a numbered file, created exclusively; the holder of a partition is who created the highest number. Whoever
finds the highest number released, or its owner dead, creates the next one. Numbers are never used again (a released
claim stays as a tombstone until the next one replaces it), so a slow contender cannot win with an old number. Claims
do not wait for the disk: a loss of power that takes them takes their owners, too.
"""

import contextlib
import hashlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from laion_assets.commit.store import Store
from laion_assets.errors import ClaimError

LEASE_S = 900.0
"""A claim from another host counts as abandoned after this; publishing moves finished files and takes seconds."""
_POLL_S = 0.2
_LIVING: set[str] = set()
"""What this process holds now, claims and attempts: others of its name are leftovers of its own failures."""


@contextlib.contextmanager
def claim(store: Store, asset: str, key: str, wait_s: float = 60.0) -> Iterator[None]:
    """Hold the partition while the body runs. Raises ClaimError when a live owner keeps it for longer than `wait_s`."""
    folder = f"claims/{asset}/{key}"
    deadline = time.monotonic() + wait_s
    with _living() as token:
        yield from _held(store, folder, token, asset, key, deadline)


def _held(store: Store, folder: str, token: str, asset: str, key: str, deadline: float) -> Iterator[None]:
    while (number := _try_claim(store, folder, token)) is None:
        if time.monotonic() > deadline:
            found = _highest(store, folder)[1]
            owner = _Owner.named(found.get("owner", ""))
            who = f"process {owner.pid} on {found['host']}" if owner else "another process"
            raise ClaimError(
                f"{asset} {key} is being published by {who}: wait for it, or end it; "
                f"the claim is {store.address(folder)}."
            )
        time.sleep(_POLL_S)
    try:
        yield
    finally:
        store.write_bytes(f"{folder}/{number:06d}", b"{}", durable=False)


def _try_claim(store: Store, folder: str, token: str) -> int | None:
    highest, found = _highest(store, folder)
    if is_alive(found.get("owner", "")):
        return None
    number = highest + 1
    content = {"owner": _Owner.here(token).name, "host": socket.gethostname()}
    if not store.create(f"{folder}/{number:06d}", json.dumps(content).encode()):
        return None
    if _highest(store, folder)[0] != number:
        store.delete(f"{folder}/{number:06d}")
        return None
    for name in store.names(folder):
        if name.isdigit() and int(name) < number:
            store.delete(f"{folder}/{name}")
    return number


def _highest(store: Store, folder: str) -> tuple[int, dict[str, str]]:
    """The highest number, 0 if there is none, and its `owner` and `host`; empty where it is held by nobody."""
    numbers = [int(name) for name in store.names(folder) if name.isdigit()]
    if not numbers:
        return 0, {}
    try:
        return max(numbers), dict(json.loads(store.read_bytes(f"{folder}/{max(numbers):06d}")))
    except (FileNotFoundError, ValueError, TypeError):
        return max(numbers), {}


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
        try:
            token, machine, pid, started, at = name.split("-")
            return cls(token, machine, int(pid), started, int(at))
        except ValueError:
            return None

    @property
    def name(self) -> str:
        return f"{self.token}-{self.machine}-{self.pid}-{self.started}-{self.at}"

    def may_live(self) -> bool:
        """Whether it may still be at work; on another machine, until its lease ends."""
        if self.machine != _machine():
            return time.time() - self.at <= LEASE_S
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
