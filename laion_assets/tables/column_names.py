"""Which column of a file holds which wanted column: one rule for CSV headers and for parquet schemas.

LAION-400M's and LAION-2B's files have the recipe's names, LAION-5B's lack some, Re-LAION's are in lower case with
`caption` for TEXT.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from laion_assets.tables.columns import WANTED_COLUMNS

ALIASES = {"caption": "TEXT", "alt_text": "TEXT", "license": "LICENSE", "nsfw": "NSFW", "key": "SAMPLE_ID"}
"""Names that stand for a wanted column where the file has none of its own name; the first in this order is taken."""


@dataclass(frozen=True)
class FoundColumns:
    """`places`: wanted column -> index in the file. `repeated`: wanted columns that more than one column could hold."""

    places: dict[str, int]
    repeated: tuple[str, ...]


def find_columns(names: Sequence[str], without: frozenset[str] = frozenset()) -> FoundColumns:
    """Find the wanted columns among a file's column names; aliases in `without` are not used.

    A name that is spelled exactly so comes first. Without one, a name that differs in letter case is taken if there is
    only one, then an alias by the same two rules.
    """
    places: dict[str, int] = {}
    repeated = []
    for wanted in WANTED_COLUMNS:
        spelled = [wanted, *(alias for alias, stands_for in ALIASES.items() if stands_for == wanted)]
        for name in spelled:
            found = places_of(names, name) if name not in without else []
            if found:
                places[wanted] = found[0]
                if len(found) > 1:
                    repeated.append(wanted)
                break
    return FoundColumns(places, tuple(repeated))


def places_of(names: Sequence[str], name: str) -> list[int]:
    """The indices of the columns of this name: those spelled exactly so, else those that differ in letter case."""
    exact = [place for place, each in enumerate(names) if each == name]
    return exact or [place for place, each in enumerate(names) if each.casefold() == name.casefold()]
