"""What a fetch found, against what is published: new, changed, unchanged and deleted files."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from laion_assets.errors import SettingError, SourceError
from laion_assets.http.listings.file_path import folders_of
from laion_assets.http.listings.listing import Listing
from laion_assets.stages.raw_csv.transfers.transfer import Fetched
from laion_assets.store.manifest import FileEntry

POLICIES = ("keep", "remove", "refuse")
"""What `csv.deleted_at_source` may say."""
_MAX_NAMED = 10


@dataclass(frozen=True)
class Inventory:
    """Paths are below `raw_csv/`. `kept` stay as they are published, `fetched` are to be published.

    `deleted_at_source` are those of `kept` that the source no longer has. `listed` = files + reasons, by the law.
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
        """Whether other files are to be published than are now."""
        return bool(self.fetched or self.changes["deleted_removed"])

    def lines(self) -> Iterator[str]:
        """For the log."""
        yield from self.remarks
        yield ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in self.changes.items())


def inventory(
    listing: Listing, found: Mapping[str, Fetched], published: Mapping[str, FileEntry], policy: str
) -> Inventory:
    """Put together what the source has and what is published.

    A published file that the source no longer lists, or lists and does not have (404, 410), is deleted at
    source: the policy keeps it (`keep`), drops it (`remove`) or raises SourceError (`refuse`). Raises SettingError for
    another policy.
    """
    if policy not in POLICIES:
        raise SettingError(f"csv.deleted_at_source is {policy!r}: it has to be one of {', '.join(POLICIES)}.")
    kept: dict[str, FileEntry] = {}
    fetched: dict[str, Fetched] = {}
    reasons = Counter(listing.left_out)
    gone = [path for path in published if path not in found]
    changes = Counter(dict.fromkeys(("new", "changed", "unchanged", "deleted_kept", "deleted_removed"), 0))
    for path, each in found.items():
        entry = published.get(path)
        if each.state == "fetched" and (entry is None or (entry.size, entry.sha256) != (each.size, each.sha256)):
            fetched[path] = each
            changes["changed" if entry else "new"] += 1
        elif entry is not None and (each.state in ("fetched", "unchanged") or each.refusal):
            # A refused response says nothing of the file that is published.
            kept[path] = entry
            changes["unchanged"] += 1
        elif entry is not None:
            gone.append(path)
        else:
            reasons[each.state] += 1
    clashes = (folders_of(fetched) & published.keys()) | (folders_of(published) & fetched.keys())
    if clashes:
        raise SourceError(
            "what was a file at the source is a folder now, or the reverse: "
            f"{', '.join(sorted(clashes)[:_MAX_NAMED])}. Nothing was published. Move it out of raw_csv/ and run again."
        )
    if gone and policy == "refuse":
        raise SourceError(
            f"{len(gone):,} published files are no longer at the source: {', '.join(sorted(gone)[:_MAX_NAMED])}. "
            "Nothing was published. Set csv.deleted_at_source to keep (they stay, flagged) or to remove."
        )
    deleted_at_source = frozenset(gone if policy == "keep" else ())
    kept |= {path: published[path] for path in deleted_at_source}
    reasons.update(found[path].state for path in gone if path in found and policy == "remove")
    changes["deleted_kept" if policy == "keep" else "deleted_removed"] += len(gone)
    named = [f"deleted at source, {policy}: {path}" for path in sorted(gone)[:_MAX_NAMED]]
    listed = len(kept) + len(fetched) + sum(reasons.values())
    refused = [
        f"{'kept as published' if path in published else 'left out'}: {path}: {each.refusal}"
        for path, each in sorted(found.items())
        if each.refusal
    ]
    remarks = (*listing.remarks, *refused[:_MAX_NAMED], *named)
    return Inventory(kept, fetched, deleted_at_source, listed, reasons, changes, remarks)
