"""Adoption: files that another program made become committed partitions without a rebuild.

A stage names a function that verifies the files of a folder (`Stage.adopt`). It changes nothing: it returns the
partitions that can be adopted, and every file that does not fit, with the reason. Only if all files fit are the
partitions committed. A file is adopted as a hard link where the disk allows it, otherwise as a copy.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import AdoptionError
from laion_assets.plain_text import one_line
from laion_assets.stages.status import PartitionState
from laion_assets.store.manifest import Counts, FileEntry, Manifest, compute_sha256, manifest_path
from laion_assets.store.store import Store
from laion_assets.store.transaction import Transaction

HARD_LINK, COPY, REARRANGED = "hard link", "copy", "rows rearranged"
"""How the large files of an adopted partition were made."""
_MAX_REASON_CHARS = 500


@dataclass(frozen=True)
class SourceFile:
    """A verified file to adopt. `identity` is that of the file when it was hashed: another file has another one."""

    path: Path
    size: int
    sha256: str
    identity: tuple[int, ...]

    @classmethod
    def read(cls, path: Path) -> "SourceFile":
        """Hash a file. Links are followed. Raises OSError."""
        path = path.resolve()
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            return cls(path, status.st_size, compute_sha256(file), _identity_of(status))

    def check_unchanged(self) -> None:
        """Raise AdoptionError if the file was changed or removed after it was verified."""
        with contextlib.suppress(OSError):
            if _identity_of(self.path.stat()) == self.identity:
                return
        raise AdoptionError(
            f"{self.path} was changed or removed after it was verified. Run the same command again. Partitions that "
            "were committed before are kept."
        )

    def place(self, target: Path, copy: bool) -> str:
        """Put the file at `target`, a new path: a hard link, or a copy if wanted or needed. Returns which of the two.

        Raises AdoptionError if the file was changed after it was verified, and OSError, for example for a full disk.
        """
        self.check_unchanged()
        if not copy:
            with contextlib.suppress(OSError):  # another disk, another owner, or a file system without hard links
                os.link(self.path, target)
                return HARD_LINK
        shutil.copyfile(self.path, target)
        self.check_unchanged()
        return COPY


class Candidate(Protocol):
    """The verified files of one partition."""

    @property
    def key(self) -> str:
        """The key of the partition."""

    @property
    def number(self) -> int:
        """The number of the partition."""

    @property
    def counts(self) -> Counts:
        """The counts of its manifest."""

    @property
    def size(self) -> int:
        """The size of the source files, in bytes."""

    @property
    def sources(self) -> dict[str, str]:
        """The sha256 of each source file, by its path in the folder."""

    @property
    def note(self) -> str:
        """What people should know about the files; empty if there is nothing."""

    def commit(self, store: Store, copy: bool) -> Manifest:
        """Commit the partition. `copy` never uses hard links. Raises AdoptionError if a source file was changed."""


@dataclass(frozen=True)
class Refusal:
    """A file or partition that does not fit, and the reason in one sentence."""

    name: str
    reason: str


@dataclass
class Findings:
    """The content of a folder: partitions to adopt, adopted ones that are complete, and what does not fit.

    `ignored` are names that the other program does not write.
    """

    candidates: list[Candidate] = field(default_factory=list)
    present: list[Manifest] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def add(self, candidate: Candidate, state: PartitionState, store: Store) -> None:
        """Add a verified partition, unless it was adopted from these files before. Refuse to replace other files.

        `state` is the state of the partition in the dataset. A damaged or stale adopted partition is adopted again.
        """
        current = state.manifest
        if current is None or (current.is_adopted and not state.is_complete):
            self.candidates.append(candidate)
        elif current.is_adopted and current.adopted.get("files") == candidate.sources:
            self.present.append(current)
        else:
            origin = f"adopted from {current.adopted.get('folder')}" if current.is_adopted else "not adopted"
            self.refuse(
                candidate.key,
                f"the dataset has this partition already, from other files ({origin}). Leave it out, or remove "
                f"{store.address(manifest_path(current.asset, current.key))} to replace it",
            )

    def refuse(self, name: str, reason: object) -> None:
        """Add a refusal."""
        self.refused.append(Refusal(one_line(name), one_line(reason, _MAX_REASON_CHARS)))


FindCandidates = Callable[[Dataset, Store, Path, Callable[[str], None]], Findings]
"""Verifies the files in a folder for a dataset and its store, with a log. Changes nothing."""


def stage_source(transaction: Transaction, path: str, source: SourceFile, copy: bool) -> str:
    """Stage a source file for `path` in the store. Returns how: a hard link is not hashed again, a copy is.

    An object store always has a copy.
    """
    method = source.place(transaction.stage(path), copy)
    if method == HARD_LINK:
        transaction.stage_hashed(FileEntry(path, source.size, source.sha256))
    return COPY if transaction.store.local_root is None else method


def describe_source(program: str, folder: Path, method: str, sources: dict[str, str]) -> dict[str, Any]:
    """Return the detail `adopted` of a manifest: who made the files, where they were, when and how they were adopted.

    `sources` has the sha256 of each source file, by its path in the folder.
    """
    return {
        "program": program,
        "folder": one_line(str(folder)),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "method": method,
        "files": sources,
    }


def digests_of(folder: Path, files: Sequence[SourceFile]) -> dict[str, str]:
    """Return the sha256 of each source file, by its path in the folder."""
    return {os.path.relpath(file.path, folder): file.sha256 for file in files}


def listed_files(folder: Path, pattern: "re.Pattern[str]") -> tuple[dict[str, "re.Match[str]"], list[str]]:
    """Return the names in a folder that match a pattern, with their matches, and the other names; both sorted.

    Raises AdoptionError if the folder cannot be read.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise AdoptionError(f"{folder} cannot be read: {error.strerror}. Name a folder on a local disk.") from error
    matches = {name: pattern.fullmatch(name) for name in names}
    return (
        {name: match for name, match in matches.items() if match is not None},
        [name for name, match in matches.items() if match is None],
    )


def refuse_own_folder(dataset: Dataset, store: Store, folder: Path) -> None:
    """Raise AdoptionError for a folder in the dataset's own folder, where links would replace their own sources."""
    root = store.local_root
    if root is not None and folder.resolve().is_relative_to(root.resolve()):
        raise AdoptionError(
            f"{folder} is in the folder of {dataset.name}, {root}, which has committed partitions only. Move the "
            "files to a folder outside of it, on the same disk, and adopt them from there."
        )


def _identity_of(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
