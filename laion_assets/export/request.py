"""What to export: how rows are chosen, the format, and the rows of a file."""

from dataclasses import dataclass

from laion_assets.errors import ExportError
from laion_assets.stages.knn_indices.vectors import MODALITIES

LIST_SUFFIXES = {"parquet": ".parquet", "csv": ".csv", "json": ".jsonl"}
"""File suffix of each list format. `json` is JSON Lines, one object a line."""
NPY, WEBDATASET = "npy", "webdataset"
FORMATS = (*LIST_SUFFIXES, NPY, WEBDATASET)
ROWS_PER_SHARD = 10_000
ROWS_PER_LIST_FILE = 1_000_000
MAX_ROWS_PER_SHARD = 100_000
MAX_ROWS_PER_LIST_FILE = 100_000_000
MAX_SEARCH_K = 100_000
"""Maximum number of search results of an export. Their metadata is kept in memory, about 1 kB each."""


@dataclass(frozen=True)
class SearchSelection:
    """The `k` nearest rows of a text, by the image or text index."""

    text: str
    k: int
    modality: str = "image"

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not 1 <= self.k <= MAX_SEARCH_K:
            raise ExportError(f"Invalid k {self.k}: expected an integer from 1 to {MAX_SEARCH_K:,}.")
        if self.modality not in MODALITIES:
            raise ExportError(f"Unknown modality {self.modality!r}. Choose from {', '.join(MODALITIES)}.")


@dataclass(frozen=True)
class ExportRequest:
    """Rows to export and their format.

    `search` or `uids` (a file) limit the rows, else all rows are candidates. `where` is an SQL predicate that exported
    rows must match. `rows_per_file` None means the default of the format. `columns` (lists only) None means all.
    `include_hidden` also exports rows that `search.show` hides, `include_failed` (lists only) rows without an image.
    `escape_formulas` (csv only) puts an apostrophe before text that a spreadsheet would run as a formula.

    Raises ExportError for values that contradict each other.
    """

    format: str
    where: str = ""
    search: SearchSelection | None = None
    uids: str = ""
    rows_per_file: int | None = None
    columns: tuple[str, ...] | None = None
    include_hidden: bool = False
    include_failed: bool = False
    escape_formulas: bool = True

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ExportError(f"Unknown format {self.format!r}. Choose from {', '.join(FORMATS)}.")
        if self.search is not None and self.uids:
            raise ExportError("Choose rows by --search or by --uids, not by both. Add --where to either of them.")
        if self.columns is not None and not self.is_list:
            raise ExportError(f"--columns is for {', '.join(LIST_SUFFIXES)}; {self.format} has fixed contents.")
        if self.include_failed and not self.is_list:
            raise ExportError(
                f"--include-failed is for {', '.join(LIST_SUFFIXES)}: {self.format} needs rows with a stored image."
            )
        if self.rows_per_file is not None:
            if self.format == NPY:
                raise ExportError("--rows-per-shard does not apply to npy, which is one file.")
            most = MAX_ROWS_PER_LIST_FILE if self.is_list else MAX_ROWS_PER_SHARD
            if not 1 <= self.rows_per_file <= most:
                raise ExportError(f"Invalid --rows-per-shard {self.rows_per_file:,}: expected 1 to {most:,}.")

    @property
    def is_list(self) -> bool:
        """Whether the format is a list of rows."""
        return self.format in LIST_SUFFIXES

    @property
    def file_rows(self) -> int:
        """Rows of a file, of a shard for webdataset."""
        return self.rows_per_file or (ROWS_PER_LIST_FILE if self.is_list else ROWS_PER_SHARD)
