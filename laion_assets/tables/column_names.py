"""Search for the wanted columns in a CSV header or a parquet schema, by one rule for both.

LAION-400M and LAION-2B have the recipe's names. LAION-5B lacks some columns. Re-LAION's names are in lower case, with
`caption` for TEXT.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from laion_assets.tables.column_rules import ColumnRules
from laion_assets.tables.columns import WANTED_COLUMNS

ALIASES = {
    "caption": "TEXT",
    "alt_text": "TEXT",
    "alt": "TEXT",
    "license": "LICENSE",
    "nsfw": "NSFW",
    "key": "SAMPLE_ID",
}
"""Other names of a wanted column, used if the file has no column of its own name. The first one found is used."""


@dataclass(frozen=True)
class FoundColumns:
    """`places`: index in the file by wanted or kept column. `repeated`: those that match several of its columns."""

    places: dict[str, int]
    repeated: tuple[str, ...]


def find_columns(
    names: Sequence[str], rules: ColumnRules = ColumnRules(), without: frozenset[str] = frozenset()
) -> FoundColumns:
    """Find the wanted and the kept columns among a file's column names. Aliases in `without` are not used.

    An exact match is used first, then a match in any letter case, then an alias by the same two rules. The name of a
    kept column must match exactly, or else in any letter case.
    """
    places: dict[str, int] = {}
    repeated = []
    for wanted in (*WANTED_COLUMNS, *rules.kept_names):
        spelled = [wanted, *(alias for alias, stands_for in ALIASES.items() if stands_for == wanted)]
        if wanted in rules.chosen:
            spelled = [rules.chosen[wanted]]
        for name in spelled:
            found = find_name(names, name) if name not in without else []
            if found:
                places[wanted] = found[0]
                if len(found) > 1:
                    repeated.append(wanted)
                break
    return FoundColumns(places, tuple(repeated))


def find_name(names: Sequence[str], name: str) -> list[int]:
    """Return the indices of the columns with this name: exact matches, else matches in any letter case."""
    exact = [place for place, each in enumerate(names) if each == name]
    return exact or [place for place, each in enumerate(names) if each.casefold() == name.casefold()]
