"""The counts of an export: rows selected = rows written + rows left out by reason."""

from collections import Counter
from dataclasses import dataclass, field

from laion_assets.errors import InvariantError

HIDDEN = "hidden"
"""The row's NSFW tag is not shown by `search.show`, or its score of the safety model is above the threshold."""
NOT_SCORED = "not_scored"
"""There is a safety model, but the row has no embedding that it could score."""
NO_IMAGE = "no_image"
"""The row has no stored image: it was not downloaded or not decoded."""
NOT_MATCHING = "not_matching"
"""The row is in the list or among the search results, but does not match the predicate."""
NOT_FOUND = "not_found"
"""No committed row has the uid."""
MISSING_SHARD = "missing_shard"
"""The uid belongs to a shard that is not committed."""
DUPLICATE = "duplicate"
"""The uid was listed before, or was already exported."""


@dataclass
class ExportCounts:
    """Rows that were read, selected (by predicate, search or list) and written; rows left out by reason."""

    read: int = 0
    selected: int = 0
    written: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def leave_out(self, reason: str, rows: int) -> None:
        """Count selected rows that are not written."""
        if rows:
            self.reasons[reason] += rows

    def check(self) -> None:
        """Raise InvariantError unless the counts add up."""
        if self.selected != self.written + self.reasons.total():
            raise InvariantError(
                f"The export selected {self.selected:,} rows, but wrote {self.written:,} and left out "
                f"{self.reasons.total():,} by reason {dict(self.reasons)}. It is not finished. This is a bug. Please "
                "report it."
            )

    def to_json(self) -> dict[str, object]:
        """Return the counts as a JSON value."""
        return {
            "read": self.read,
            "selected": self.selected,
            "written": self.written,
            "reasons": dict(sorted(self.reasons.items())),
        }
