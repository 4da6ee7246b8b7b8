"""Comparison of a fetch with the committed files: new, changed, unchanged and deleted ones."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from laion_assets.errors import SettingError, SourceError
from laion_assets.http.listings.file_path import collect_folders
from laion_assets.http.listings.listing import Listing
from laion_assets.stages.raw_csv.transfers.transfer import Fetched
from laion_assets.store.manifest import FileEntry

POLICIES = ("keep", "remove", "refuse")
"""The values of `csv.deleted_at_source`."""
_MAX_NAMED = 10


@dataclass(frozen=True)
class Inventory:
    """The files of the next commit, by path below `raw_csv/`.

    `kept` files are already committed, `fetched` files are new. `deleted_at_source` are the kept files that the source
    no longer has. `changes` counts the files by kind of change. By the row-count invariant, `listed` is the number of
    files plus the number of left-out names in `reasons`.
    """

    kept: Mapping[str, FileEntry]
    fetched: Mapping[str, Fetched]
    deleted_at_source: frozenset[str]
    listed: int
    reasons: Mapping[str, int]
    changes: Mapping[str, int]
    remarks: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the next commit has other files than the present one."""
        return bool(self.fetched or self.changes["deleted_removed"])

    def lines(self) -> Iterator[str]:
        """Yield the lines of the summary for the log."""
        yield from self.remarks
        yield ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in self.changes.items())


def take_inventory(
    listing: Listing, found: Mapping[str, Fetched], committed: Mapping[str, FileEntry], policy: str
) -> Inventory:
    """Compare the files of the source with the committed ones.

    A committed file is deleted at source if the source no longer lists it, or answers 404 or 410 for it. `policy` is
    the value of `csv.deleted_at_source`: `keep` keeps such files, `remove` removes them, `refuse` raises SourceError.
    Raises SettingError for any other value.
    """
    if policy not in POLICIES:
        raise SettingError(f"Invalid value {policy!r} of csv.deleted_at_source. Choose from {', '.join(POLICIES)}.")
    kept: dict[str, FileEntry] = {}
    fetched: dict[str, Fetched] = {}
    reasons = Counter(listing.left_out)
    gone = [path for path in committed if path not in found]
    changes = Counter(dict.fromkeys(("new", "changed", "unchanged", "deleted_kept", "deleted_removed"), 0))
    for path, each in found.items():
        entry = committed.get(path)
        if each.state == "fetched" and (entry is None or (entry.size, entry.sha256) != (each.size, each.sha256)):
            fetched[path] = each
            changes["changed" if entry else "new"] += 1
        elif entry is not None and (each.state in ("fetched", "unchanged") or each.refusal):
            # A refused response does not tell whether the committed file changed.
            kept[path] = entry
            changes["unchanged"] += 1
        elif entry is not None:
            gone.append(path)
        else:
            reasons[each.state] += 1
    clashes = (collect_folders(fetched) & committed.keys()) | (collect_folders(committed) & fetched.keys())
    if clashes:
        raise SourceError(
            "A committed file is now a folder of the source, or a committed folder is now a file: "
            f"{', '.join(sorted(clashes)[:_MAX_NAMED])}. Nothing was committed. Move it out of raw_csv/ and run again."
        )
    if gone and policy == "refuse":
        raise SourceError(
            f"{len(gone):,} committed files were deleted at source: {', '.join(sorted(gone)[:_MAX_NAMED])}. Nothing "
            "was committed. Set csv.deleted_at_source to keep (keep and mark them) or remove, and run again."
        )
    deleted_at_source = frozenset(gone if policy == "keep" else ())
    kept |= {path: committed[path] for path in deleted_at_source}
    reasons.update(found[path].state for path in gone if path in found and policy == "remove")
    changes["deleted_kept" if policy == "keep" else "deleted_removed"] += len(gone)
    named = [f"deleted at source, {policy}: {path}" for path in sorted(gone)[:_MAX_NAMED]]
    listed = len(kept) + len(fetched) + sum(reasons.values())
    refused = [
        f"{'kept the committed file' if path in committed else 'left out'}: {path}: {each.refusal}"
        for path, each in sorted(found.items())
        if each.refusal
    ]
    remarks = (*listing.remarks, *refused[:_MAX_NAMED], *named)
    return Inventory(kept, fetched, deleted_at_source, listed, reasons, changes, remarks)
