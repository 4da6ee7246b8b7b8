"""Inspect the files of a new dataset: format, dialect, columns, rows and examples, and the settings that follow."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.proposed_layout import propose_layout
from laion_assets.errors import SourceError
from laion_assets.inspection.parquet_inspection import inspect_parquet
from laion_assets.inspection.row_count import RowCount
from laion_assets.inspection.sample_rows import SampleRows
from laion_assets.inspection.source_files import SourceFiles, find_source_files
from laion_assets.inspection.table_columns import (
    ColumnSample,
    find_column,
    is_well_known,
    rank_caption_columns,
    rank_url_columns,
)
from laion_assets.inspection.table_sample import Choices, TableSample
from laion_assets.inspection.text_inspection import inspect_text
from laion_assets.tables.column_names import find_columns

Ask = Callable[[str, Sequence[str]], str | None]
"""Asks a question with choices. Returns the chosen one, None to use the first one."""


@dataclass(frozen=True)
class Inspection:
    """The result: the dataset with its settings and layout, and what is shown to the user.

    `format` is in words. `url` and `caption` are the columns, `others` the names of further ones. `rows` of the sample
    are read by the dataset's own reader.
    """

    dataset: Dataset
    files: SourceFiles
    format: str
    url: ColumnSample
    caption: ColumnSample | None
    others: tuple[str, ...]
    row_count: RowCount
    sample: SampleRows
    remarks: tuple[str, ...] = ()

    @property
    def has_nsfw_tags(self) -> bool:
        """Whether the files have a column of NSFW tags, which says for each image whether it may be shown."""
        return any(name.casefold() == "nsfw" for name in self.others)


def inspect_place(dataset: Dataset, place: str, choices: Choices, ask: Ask) -> Inspection:
    """Inspect the files of a place and return the dataset with the settings and the layout for them.

    `dataset` has the name, the root and the network settings. Opens at most ten files and reads their first bytes or
    footers. Raises SourceError if there are no files, no column of URLs, several formats, or unreadable files.
    """
    files = find_source_files(dataset, place)
    table = (inspect_parquet if files.format == "parquet" else inspect_text)(files, choices)
    url, caption = _choose_columns(table.columns, table.nested, choices, ask)
    kept = [find_column(table.columns, name, "--keep") for name in choices.keep]
    final = _set_columns(table, url, caption, kept)
    final = replace(final, layout=propose_layout(table.row_count.rows, table.row_count.error))
    rows = table.read_rows(final)
    if not rows.accepted:
        raise SourceError(
            f"No row of {place} can be read with these settings: {dict(rows.reasons)}. The columns are "
            f"{', '.join(column.name for column in table.columns)}. Set --url-column, --separator or --encoding."
        )
    chosen = {url.name, *([caption.name] if caption else ()), *(column.name for column in kept)}
    others = tuple(column.name for column in table.columns if column.name not in chosen)
    return Inspection(final, files, table.format, url, caption, others, table.row_count, rows, tuple(table.remarks))


def _choose_columns(
    columns: Sequence[ColumnSample], nested: Sequence[str], choices: Choices, ask: Ask
) -> tuple[ColumnSample, ColumnSample | None]:
    if choices.url_column:
        url = find_column(columns, choices.url_column, "--url-column")
    else:
        url = _choose("Which column has the URLs of the images?", rank_url_columns(columns, nested), ask)
    if choices.caption_column:
        return url, find_column(columns, choices.caption_column, "--caption-column")
    found = rank_caption_columns(columns, url)
    return url, _choose("Which column has the captions?", found, ask) if found else None


def _choose(question: str, found: Sequence[ColumnSample], ask: Ask) -> ColumnSample:
    """Return the only candidate, or the one with a well-known name, or ask."""
    known = [column for column in found if is_well_known(column)]
    if len(found) == 1 or len(known) == 1:
        return (known or found)[0]
    answer = ask(question, [column.name for column in found])
    return found[0] if answer is None else find_column(found, answer, question)


def _set_columns(
    table: TableSample, url: ColumnSample, caption: ColumnSample | None, kept: Sequence[ColumnSample]
) -> Dataset:
    """Set the names of columns that the rules for names would not find, the required and the kept columns."""
    dedup = table.dataset.dedup
    names = [column.name for column in table.columns]
    usual = find_columns(names)
    repeated = Counter(name.casefold() for name in names)

    def name_for(wanted: str, column: ColumnSample) -> str:
        place = usual.places.get(wanted)
        is_usual = place is not None and names[place] == column.name and repeated[column.name.casefold()] == 1
        return "" if is_usual else column.name

    required = dedup.required_columns
    if table.is_csv or not caption:
        further = [name for name in required if name not in ("URL", "TEXT") and name in usual.places]
        required = ("URL", *(["TEXT"] if caption else []), *further)
    return replace(
        table.dataset,
        dedup=replace(
            dedup,
            url_column=name_for("URL", url),
            caption_column=name_for("TEXT", caption) if caption else "",
            required_columns=required,
            keep_columns=tuple(_describe_kept(column) for column in kept),
        ),
    )


def _describe_kept(column: ColumnSample) -> str:
    return column.name if column.kept_type == "string" else f"{column.name}:{column.kept_type}"
