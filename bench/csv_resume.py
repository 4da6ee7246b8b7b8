"""A fetch that is killed and started again, checked by the server's access log."""

import hashlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from csv_sides import command_of_ours, run_ours
from csv_site import CsvTree

from laion_assets.stages.raw_csv.build import PARTIAL_FOLDER
from laion_assets.store.manifest import disagreement, read_manifest
from laion_assets.store.store import Store

KILL_AT_SHARE = 0.4
"""Share of complete files at the kill. The large files, whose rate is limited, are incomplete then."""
_LIMIT_S = 300.0


@dataclass(frozen=True)
class Resume:
    """The result of a resumption.

    `complete` and `partial` files were on disk at the kill. Of the complete ones, `refetched` were sent again. Of the
    partial ones, `resumed` continued by a range request. `bytes_twice` were on disk at the kill and were sent again.
    """

    complete: int
    partial: int
    refetched: int
    resumed: int
    bytes_twice: int
    connections: int


def kill_and_resume(tree: CsvTree, folder: Path, rate: int, log: Callable[[str], None]) -> Resume:
    """Kill a fetch with -9, fetch again, and compare. Raises RuntimeError if the result differs from the tree."""
    root = folder / "resumed"
    held_in = root / "laion400m" / PARTIAL_FOLDER
    with tree.serve(rate) as url:
        process = subprocess.Popen(command_of_ours(url, root), stdout=subprocess.DEVNULL)
        try:
            _wait_for_share(held_in, len(tree.files), process)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        held = _held(held_in, tree)
        seen = len(tree.log())
        log(f"  killed with {len(held):,} of {len(tree.files):,} files on disk, whole or in part")
        run_ours(url, root, log)
        lines = [line for line in tree.log(seen) if line.path in tree.files]
    _verify(tree, root)
    whole = {path for path, size in held.items() if size == tree.files[path]}
    partial = {path: size for path, size in held.items() if 0 < size < tree.files[path]}
    resumed, twice = set(), 0
    for line in lines:
        start = int(found.group(1)) if (found := re.match(r"bytes=(\d+)-", line.range)) and line.status == 206 else 0
        if line.status == 206 and start == partial.get(line.path):
            resumed.add(line.path)
        twice += max(min(held.get(line.path, 0), start + line.sent) - start, 0)
    refetched = {line.path for line in lines if line.path in whole and line.sent > 0 and line.status in (200, 206)}
    connections = len({line.connection for line in lines})
    return Resume(len(whole), len(partial), len(refetched), len(resumed), twice, connections)


def _wait_for_share(held_in: Path, files: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _LIMIT_S
    while process.poll() is None and time.monotonic() < deadline:
        if held_in.exists() and len(os.listdir(held_in)) > KILL_AT_SHARE * files:
            return
        time.sleep(0.02)
    raise RuntimeError("the fetch ended before it could be killed: give more or larger files.")


def _held(held_in: Path, tree: CsvTree) -> dict[str, int]:
    """Return the bytes on disk at the kill, by path, from file sizes and not from our journal."""
    sizes = {name: (held_in / name).stat().st_size for name in os.listdir(held_in)}
    names = {path: hashlib.md5(path.encode()).hexdigest() for path in tree.files}
    return {path: sizes[name] for path, name in names.items() if name in sizes}


def _verify(tree: CsvTree, root: Path) -> None:
    store = Store(str(root / "laion400m"))
    manifest = read_manifest(store, "raw_csv", "all")
    problem = "no manifest" if manifest is None else disagreement(store, manifest, hashes=True)
    if manifest is not None and not problem:
        hashes = {entry.path.removeprefix("raw_csv/"): entry.sha256 for entry in manifest.files}
        for path in tree.files:
            with (tree.folder / "site" / path).open("rb") as file:
                if hashes.get(path) != hashlib.file_digest(file, "sha256").hexdigest():
                    problem = f"{path} is not what the server has"
                    break
    if problem:
        raise RuntimeError(f"after the resume: {problem}")
