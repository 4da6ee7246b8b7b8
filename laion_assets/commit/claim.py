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
from typing import Any

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
            owner = _highest(store, folder)[1] or {}
            raise ClaimError(
                f"{asset} {key} is being published by process {owner.get('pid')} on {owner.get('host')}: wait for it, "
                f"or end it; the claim is {store.address(folder)}."
            )
        time.sleep(_POLL_S)
    try:
        yield
    finally:
        store.write_bytes(f"{folder}/{number:06d}", json.dumps({"released": True}).encode(), durable=False)


def _try_claim(store: Store, folder: str, token: str) -> int | None:
    highest, owner = _highest(store, folder)
    if owner is not None and not _is_free(owner):
        return None
    number = highest + 1
    if not store.create(f"{folder}/{number:06d}", json.dumps(_identity(token)).encode()):
        return None
    if _highest(store, folder)[0] != number:
        store.delete(f"{folder}/{number:06d}")
        return None
    for name in store.names(folder):
        if name.isdigit() and int(name) < number:
            store.delete(f"{folder}/{name}")
    return number


def _highest(store: Store, folder: str) -> tuple[int, dict[str, Any] | None]:
    numbers = [int(name) for name in store.names(folder) if name.isdigit()]
    if not numbers:
        return 0, None
    try:
        return max(numbers), json.loads(store.read_bytes(f"{folder}/{max(numbers):06d}"))
    except (FileNotFoundError, ValueError):
        return max(numbers), {"released": True}


def _is_free(owner: dict[str, Any]) -> bool:
    if owner.get("released"):
        return True
    if owner.get("host") != socket.gethostname() or owner.get("boot") != boot_id():
        return time.time() - float(owner.get("at", 0)) > LEASE_S
    if owner["pid"] == os.getpid() and owner.get("token", "") not in _LIVING:
        return True  # this process gave it up, and could not write that down: its disk was full
    return _start_time(int(owner["pid"])) != owner.get("started")


def _identity(token: str) -> dict[str, Any]:
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "boot": boot_id(),
        "pid": pid,
        "started": _start_time(pid),
        "at": time.time(),
        "token": token,
    }


@contextlib.contextmanager
def living_name() -> Iterator[str]:
    """A name for a folder that says whose it is: this process, alive for as long as the block lasts.

    A folder is there with its name at once; a file in it that names its owner may be left unwritten by a kill.
    """
    with _living() as token:
        owner = _identity(token)
        yield f"{token}-{_machine(owner)}-{owner['pid']}-{owner['started']:.2f}-{owner['at']:.0f}"


def is_alive(name: str) -> bool:
    """Whether the process that made this name may still be at work; not where it is none of `living_name`'s."""
    try:
        token, machine, pid, started, at = name.split("-")
        owner = {"pid": int(pid), "started": float(started), "at": float(at)}
    except ValueError:
        return False
    if machine != _machine({"host": socket.gethostname(), "boot": boot_id()}):
        return time.time() - owner["at"] <= LEASE_S
    if owner["pid"] == os.getpid():
        return token in _LIVING
    running = _start_time(int(owner["pid"]))
    return running is not None and f"{running:.2f}" == started


def _machine(owner: dict[str, Any]) -> str:
    return hashlib.sha256(f"{owner['host']} {owner['boot']}".encode()).hexdigest()[:12]


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
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def _start_time(pid: int) -> float | None:
    """When the process started, None if there is none; tells a process from another that got the same pid later."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None
