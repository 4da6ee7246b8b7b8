"""Which columns of a source file are read: a value that the settings make and every reader takes. Picklable."""

from collections.abc import Mapping
from dataclasses import dataclass, field

KEPT_TYPES = ("string", "int64", "float64", "bool")
"""Types of a kept column, by pyarrow's names."""


@dataclass(frozen=True)
class KeptColumn:
    """A column of the source that is kept, with the type that it gets."""

    name: str
    type: str = "string"

    @classmethod
    def parse(cls, text: str) -> "KeptColumn":
        """Parse an item of `dedup.keep_columns`: `NAME` or `NAME:TYPE`. A name may contain colons."""
        name, colon, kind = text.rpartition(":")
        return cls(name.strip(), kind.strip()) if colon and kind.strip() in KEPT_TYPES else cls(text.strip())


@dataclass(frozen=True)
class ColumnRules:
    """Rules for the columns of a file.

    `chosen` has the names from the settings for wanted columns (`dedup.url_column`): other names are not used.
    `needed` are wanted columns without which a parquet file is refused. `kept` are columns that are kept unchanged;
    each file must have them.
    """

    chosen: Mapping[str, str] = field(default_factory=dict)
    needed: tuple[str, ...] = ("URL", "TEXT")
    kept: tuple[KeptColumn, ...] = ()

    @property
    def kept_names(self) -> tuple[str, ...]:
        """Names of the kept columns."""
        return tuple(column.name for column in self.kept)
