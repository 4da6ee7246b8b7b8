"""Write the sha256 of every file that pip may install into lock files, for `pip install --require-hashes`.

    python tools/lock.py requirements.lock requirements-cpu.lock requirements-cuda.lock --wheel torch-2.13.0+cpu-....whl

A lock file pins one version per line (`name==version`, from `pip freeze --exclude-editable`). The files of that version
are looked up in the index of pip's configuration. All wheels and sources that Python 3.11 or 3.12 can install are
listed, for any platform. `--wheel` adds a wheel that no index has, such as torch for CPUs.
"""

import argparse
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from packaging.tags import Tag
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ \\;]+)(?: *;[^\\]*)?")
MINORS = (11, 12)
"""The versions of Python 3 in setup.cfg."""


def main() -> None:
    """Rewrite each lock file in place. Comments and pins are kept."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("locks", nargs="+", type=Path)
    arguments.add_argument("--wheel", action="append", default=[], type=Path, help="a wheel that the index lacks")
    given = arguments.parse_args()
    local = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in given.wheel]
    index = Index()
    for lock in given.locks:
        lines = []
        for line in lock.read_text("utf-8").splitlines():
            if pin := PIN.match(line):
                files = [*index.files(pin[1]), *local]
                hashes = sorted({digest for file, digest in files if is_of(file, pin[1], pin[2])})
                if not hashes:
                    raise SystemExit(f"{lock}: the index lists no file of {pin[0]} for these versions of Python.")
                lines.append(" \\\n".join([pin[0].rstrip(), *(f"    --hash=sha256:{digest}" for digest in hashes)]))
            elif not line.strip().startswith("--hash"):
                lines.append(line)
        lock.write_text("\n".join(lines) + "\n", "utf-8")


class Index:
    """The package index of pip's configuration, read with pip's client (the private API of pip 23 to 25)."""

    def __init__(self) -> None:
        from pip._internal.commands import create_command

        command = create_command("download")
        options, _ = command.parse_args(["--quiet", "nothing"])
        with command.main_context():
            session = command.get_default_session(options)
            self._collector = command._build_package_finder(options, session)._link_collector

    def files(self, name: str) -> Iterator[tuple[str, str]]:
        """Return the file name and sha256 of all files of a project."""
        from pip._internal.index.collector import parse_links
        from pip._internal.models.link import Link

        for url in self._collector.search_scope.get_index_urls_locations(canonicalize_name(name)):
            # Indexes on a local disk have copies of only some of the files.
            content = None if url.startswith("file:") else self._collector.fetch_response(Link(url))
            for link in parse_links(content) if content else ():
                if link.hash_name == "sha256" and link.hash:
                    yield link.filename, link.hash


def is_of(file: str, name: str, version: str) -> bool:
    """Whether a file belongs to this version, and Python 3.11 or 3.12 can install it."""
    try:
        if file.endswith(".whl"):
            project, found, _, tags = parse_wheel_filename(file)
            if not any(is_installable(tag) for tag in tags):
                return False
        else:
            project, found = parse_sdist_filename(file)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return False
    return project == canonicalize_name(name) and found == Version(version)


def is_installable(tag: Tag) -> bool:
    """Whether Python 3.11 or 3.12 can install a wheel with this tag, on any platform."""
    interpreter, abi = tag.interpreter, tag.abi
    if interpreter.startswith("py"):
        return interpreter in ("py3", *(f"py3{minor}" for minor in range(MINORS[-1] + 1))) and abi == "none"
    minor = int(interpreter[3:]) if re.fullmatch(r"cp3\d+", interpreter) else -1
    return (minor in MINORS and abi in (f"cp3{minor}", "none")) or (0 <= minor <= MINORS[-1] and abi == "abi3")


if __name__ == "__main__":
    main()
