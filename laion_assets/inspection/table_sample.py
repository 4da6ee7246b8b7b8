"""What the user chose, and what the inspection of one format returns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from laion_assets.dataset.dataset import Dataset
from laion_assets.inspection.row_count import RowCount
from laion_assets.inspection.sample_rows import SampleRows
from laion_assets.inspection.table_columns import ColumnSample


@dataclass(frozen=True)
class Choices:
    """What the user has decided. Values that are empty, and `quote` None, are detected."""

    url_column: str = ""
    caption_column: str = ""
    separator: str = ""
    quote: str | None = None
    encoding: str = ""
    keep: tuple[str, ...] = ()


@dataclass
class TableSample:
    """What the inspection of one format finds: settings for `dedup`, columns with values, the number of rows.

    `read_rows` reads the sample with the final settings.
    """

    dataset: Dataset
    format: str
    columns: Sequence[ColumnSample]
    row_count: RowCount
    read_rows: Callable[[Dataset], SampleRows]
    remarks: list[str] = field(default_factory=list)
    is_csv: bool = False
    nested: tuple[str, ...] = ()
    """Columns of lists and structs, which are not read, with their types."""
