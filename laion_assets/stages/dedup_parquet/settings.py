"""Settings of `dedup_parquet`: how source files are read and which rows are kept."""

from dataclasses import dataclass

from laion_assets.dataset.settings.checks import one_separator
from laion_assets.dataset.settings.field import check_settings, setting
from laion_assets.errors import SettingError
from laion_assets.stages.dedup_parquet.rows.row_filter import RowFilter
from laion_assets.tables.table_limits import TableLimits


@dataclass(frozen=True)
class DedupSettings:
    """How CSV and parquet files are read, normalised, filtered and deduplicated."""

    separator: str = setting("|", "field separator of the CSV files", check=one_separator, changes_bytes=True)
    required_columns: tuple[str, ...] = setting(
        ("URL", "TEXT", "similarity"),
        "columns that a CSV file must have, in any letter case; TEXT may be named caption. The rows of a file without "
        "one are rejected and counted, as the LAION-400M recipe skips files without similarity",
        changes_bytes=True,
    )
    url_column: str = setting(
        "",
        "name of the column of URLs, in any letter case; empty: URL",
        changes_bytes=True,
        in_digest_at_default=False,
    )
    caption_column: str = setting(
        "",
        "name of the column of captions, in any letter case; empty: TEXT, caption or alt_text",
        changes_bytes=True,
        in_digest_at_default=False,
    )
    max_url_chars: int = setting(
        4_096,
        "maximum length of a URL; a row with a longer one is quarantined",
        unit="characters",
        min=16,
        max=65_536,
        changes_bytes=True,
    )
    max_caption_chars: int = setting(
        100_000,
        "maximum length of a caption; a row with a longer one is quarantined",
        unit="characters",
        min=1,
        max=1_000_000,
        changes_bytes=True,
    )
    width_height_swapped: bool = setting(
        False,
        "the source has WIDTH and HEIGHT swapped, as the published LAION-400M files do; they are swapped back",
        changes_bytes=True,
    )
    where: RowFilter = RowFilter()
    limits: TableLimits = TableLimits()

    @property
    def chosen_columns(self) -> dict[str, str]:
        """The names of wanted columns that are set, by wanted column."""
        chosen = {"URL": self.url_column, "TEXT": self.caption_column}
        return {wanted: name for wanted, name in chosen.items() if name}

    def __post_init__(self) -> None:
        check_settings(self, "dedup.")
        shortest = self.where.min_caption_chars
        if shortest is not None and shortest > self.max_caption_chars:
            raise SettingError(
                f"dedup.where.min_caption_chars is {shortest} and dedup.max_caption_chars is "
                f"{self.max_caption_chars}: no row can meet both. Lower the first or raise the second."
            )
