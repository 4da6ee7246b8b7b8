"""Settings of `dedup_parquet`: how source files are read and which rows are kept."""

from dataclasses import dataclass

from laion_assets.dataset.settings.checks import one_separator, quote_character
from laion_assets.dataset.settings.field import check_settings, setting
from laion_assets.errors import SettingError
from laion_assets.stages.dedup_parquet.rows.row_filter import RowFilter
from laion_assets.tables.column_rules import ColumnRules, KeptColumn
from laion_assets.tables.table_limits import TableLimits

ENCODINGS = (
    "utf-8",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "windows-1252",
    "iso-8859-1",
    "iso-8859-15",
    "windows-1250",
    "windows-1251",
    "koi8-r",
    "shift_jis",
    "cp932",
    "euc-jp",
    "gb18030",
    "big5",
    "euc-kr",
    "cp949",
)
"""Encodings of text files, by Python's names."""
FORMATS = ("auto", "csv", "json_lines", "parquet")
_OWN_COLUMNS = frozenset(
    ("uid", "sample_id", "url", "text", "height", "width", "license", "nsfw", "similarity", "source_file", "source_row")
)
"""Columns of dedup_parquet, in lower case."""
_IMG2DATASET_COLUMNS = frozenset(
    ("key", "caption", "original_width", "original_height", "status", "error_message", "exif", "md5", "sha256")
).union(("sha512", "reason", "image_path", "clip_similarity", "metadata"))
"""Columns that img2dataset and clip-retrieval write themselves, and `reason`."""


@dataclass(frozen=True)
class DedupSettings:
    """How CSV and parquet files are read, normalised, filtered and deduplicated."""

    separator: str = setting("|", "field separator of the CSV files", check=one_separator, changes_bytes=True)
    quote: str = setting(
        '"',
        "quote character of the CSV files, doubled inside of quoted fields; empty: fields are not quoted",
        check=quote_character,
        changes_bytes=True,
        in_digest_at_default=False,
    )
    encoding: str = setting(
        "utf-8",
        "character encoding of CSV and JSON lines files. A row with bytes that it does not have is rejected "
        "(`invalid_utf8`)",
        choices=ENCODINGS,
        changes_bytes=True,
        in_digest_at_default=False,
    )
    format: str = setting(
        "auto",
        "format of the source files. auto: by file name (.parquet; .jsonl, .ndjson and .json, also with .gz or .zst; "
        "all others are CSV)",
        choices=FORMATS,
        changes_bytes=True,
        in_digest_at_default=False,
    )
    column_names: tuple[str, ...] = setting(
        (),
        "names of the columns of CSV files without a header line; empty: the first line is the header",
        changes_bytes=True,
        in_digest_at_default=False,
    )
    keep_columns: tuple[str, ...] = setting(
        (),
        "further columns of the source to keep in dedup_parquet and in each sample of image_shards, as NAME or "
        "NAME:TYPE (string, int64, float64 or bool; default string). Each file must have them",
        changes_bytes=True,
        in_digest_at_default=False,
    )
    required_columns: tuple[str, ...] = setting(
        ("URL", "TEXT", "similarity"),
        "columns that a CSV file must have, in any letter case; TEXT may be named caption. The rows of a file without "
        "one are rejected and counted, as the LAION-400M recipe skips files without similarity. Without TEXT, captions "
        "are optional, also in parquet files",
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
    def column_rules(self) -> ColumnRules:
        """The rules for the columns of source files."""
        named = {"URL": self.url_column, "TEXT": self.caption_column}
        has_captions = any(name.upper() in ("TEXT", "CAPTION") for name in self.required_columns)
        return ColumnRules(
            chosen={wanted: name for wanted, name in named.items() if name},
            needed=("URL", "TEXT") if has_captions else ("URL",),
            kept=self.kept,
        )

    @property
    def kept(self) -> tuple[KeptColumn, ...]:
        """The columns that `keep_columns` names."""
        return tuple(KeptColumn.parse(text) for text in self.keep_columns)

    def __post_init__(self) -> None:
        check_settings(self, "dedup.")
        self._check_names()
        shortest = self.where.min_caption_chars
        if shortest is not None and shortest > self.max_caption_chars:
            raise SettingError(
                f"dedup.where.min_caption_chars is {shortest} and dedup.max_caption_chars is "
                f"{self.max_caption_chars}: no row can meet both. Lower the first or raise the second."
            )

    def _check_names(self) -> None:
        names = [column.name.casefold() for column in self.kept]
        for column in self.kept:
            lowered = column.name.casefold()
            if lowered in _OWN_COLUMNS | _IMG2DATASET_COLUMNS or not column.name:
                raise SettingError(
                    f"dedup.keep_columns contains {column.name!r}, a name that dedup_parquet or img2dataset uses "
                    "itself. Rename the column in the source, or remove it from the list."
                )
            if names.count(lowered) > 1:
                raise SettingError(f"dedup.keep_columns contains {column.name!r} twice. Remove one of them.")
        if self.quote and self.quote == self.separator:
            raise SettingError(
                f"dedup.quote and dedup.separator are both {self.quote!r}. Set dedup.quote to an empty text, or one of "
                "them to another character."
            )
