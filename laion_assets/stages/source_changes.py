"""What a source has now, compared with the files that were committed from it. Reads listings only."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.settings.field import compute_digest
from laion_assets.store.manifest import Manifest
from laion_assets.store.store import Store


@dataclass(frozen=True)
class FileVersion:
    """A file of a source: its size in bytes, -1 if unknown, and its entity tag or date, empty if unknown."""

    size: int = -1
    version: str = ""

    def differs(self, other: "FileVersion") -> bool:
        """Whether both are known to differ. What only one of them knows is not compared."""
        sizes, versions = (self.size, other.size), (self.version, other.version)
        return (min(sizes) >= 0 and self.size != other.size) or (all(versions) and self.version != other.version)


@dataclass(frozen=True)
class SourceChanges:
    """The number of new, changed and deleted files of a source. `digest` stands for all files that it has now."""

    new: int
    changed: int
    deleted: int
    digest: str

    def __bool__(self) -> bool:
        """Whether there is any change."""
        return bool(self.new or self.changed or self.deleted)

    def __str__(self) -> str:
        return f"{self.new:,} new, {self.changed:,} changed and {self.deleted:,} deleted files"


FindChanges = Callable[[Dataset, Store], SourceChanges]
"""Compares a source with the committed files. Raises SettingError and SourceError."""
Observe = Callable[[Dataset, Store, Callable[[str], None]], Manifest]
"""Records the files of others as they are now, and returns the commit. The last argument logs a line."""


def compare_files(
    source: Mapping[str, FileVersion], committed: Mapping[str, FileVersion], known_deleted: Collection[str] = ()
) -> SourceChanges:
    """Compare the files of a source with the committed ones, by path.

    `known_deleted` are committed files that the last run already found to be deleted at the source.
    """
    both = source.keys() & committed.keys()
    return SourceChanges(
        new=len(source.keys() - committed.keys()),
        changed=sum(source[path].differs(committed[path]) for path in both),
        deleted=len(committed.keys() - source.keys() - set(known_deleted)),
        digest=compute_digest(sorted([path, file.size, file.version] for path, file in source.items())),
    )
