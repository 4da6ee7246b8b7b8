"""What changed at a source since its files were committed or observed."""

from collections.abc import Callable
from dataclasses import dataclass

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.settings.field import compute_digest
from laion_assets.store.manifest import Manifest
from laion_assets.store.store import Store


@dataclass(frozen=True)
class SourceChanges:
    """Files of the source, by path below it, that differ from the committed ones.

    `size` is the number of bytes of the new and changed files, None if the source does not tell it.
    """

    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    size: int | None = 0

    def __bool__(self) -> bool:
        return bool(self.new or self.changed or self.deleted)

    def __str__(self) -> str:
        return f"{len(self.new):,} new, {len(self.changed):,} changed and {len(self.deleted):,} deleted files"

    @property
    def named(self) -> tuple[str, ...]:
        """Each file with what happened to it: `a.csv (changed)`."""
        kinds = ("changed", "new", "deleted")
        return tuple(f"{path} ({kind})" for kind in kinds for path in getattr(self, kind))

    @property
    def digest(self) -> str:
        """A digest of the changes: which files, and how many bytes."""
        return compute_digest([list(self.named), self.size])


FindChanges = Callable[[Dataset], SourceChanges]
"""Compares the source of a dataset with its files. Raises SettingError and SourceError."""
Observe = Callable[[Dataset, Store, Callable[[str], None]], Manifest]
"""Records the files of others as they are now, and returns the commit. The last argument logs a line."""
