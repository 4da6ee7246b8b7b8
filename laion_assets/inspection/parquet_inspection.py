"""Inspection of parquet files: columns, rows and examples, from the footers of some files and one batch of rows."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import pyarrow as pa

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SourceError
from laion_assets.http.listings.listing import Listed
from laion_assets.http.sources.dataset_policy import source_policy
from laion_assets.inspection.row_count import RowCount
from laion_assets.inspection.sample_rows import ALL, SampleRows
from laion_assets.inspection.source_files import SourceFiles
from laion_assets.inspection.table_columns import MAX_NESTED, ColumnSample
from laion_assets.inspection.table_sample import Choices, TableSample
from laion_assets.inspection.text_sample import choose_files, open_file
from laion_assets.stages.dedup_parquet.readers.parquet_rows import read_parquet_rows
from laion_assets.tables.column_rules import ColumnRules, KeptColumn
from laion_assets.tables.parquet_columns import TextColumn
from laion_assets.tables.parquet_process import ParquetReader, open_parquet

MAX_FOOTERS = 300
"""Files up to which all footers are read, so that the number of rows is exact. Of more files, so many are read."""
_SAMPLED_FOOTERS_ERROR = 0.2
_THREADS = 4
_SAMPLED_VALUES = 1_000
_MAX_COLUMNS = 50
_SCALAR = (
    "string",
    "large_string",
    "binary",
    "large_binary",
    "int",
    "uint",
    "float",
    "double",
    "halffloat",
    "bool",
    "dict",
)


def inspect_parquet(files: SourceFiles, choices: Choices) -> TableSample:
    """Inspect parquet files. Raises SourceError for a file that cannot be read or has other columns than the first."""
    policy, dataset = source_policy(files.dataset), files.dataset

    def read_footer(file: Listed) -> tuple[int, list[tuple[str, str]]]:
        with open_file(file, policy) as opened, open_parquet(opened, file.url, dataset.dedup.limits, None) as reader:
            return reader.rows, reader.types

    chosen = choose_files(files.files, MAX_FOOTERS)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="footer") as pool:
        footers = list(zip(chosen, pool.map(read_footer, chosen), strict=True))
    types = footers[0][1][1]
    for file, (_, others) in footers:
        if missing := sorted(dict(types).keys() - dict(others).keys()):
            raise SourceError(
                f"{file.url} has no column {missing[0]}, which {files.files[0].url} has. Name files with the same "
                "columns, for example with a pattern."
            )
    rows = sum(found for _, (found, _) in footers)
    sampled = next((file for file, (found, _) in footers if found), files.files[0])
    if not rows:
        raise SourceError(f"The parquet files have no rows: {files.files[0].url}.")
    scalar = [(name, kind) for name, kind in types if kind.startswith(_SCALAR)][:_MAX_COLUMNS]
    nested = [f"{name} ({kind})" for name, kind in types if not kind.startswith(_SCALAR)]
    with open_file(sampled, policy) as opened:
        rules = ColumnRules(needed=(), kept=tuple(KeptColumn(name) for name, _ in scalar))
        with open_parquet(opened, sampled.url, dataset.dedup.limits, rules) as reader:
            columns = _read_columns(reader, scalar)
    count = RowCount(rows)
    if len(files.files) > len(chosen):
        count = RowCount(rows * len(files.files) // len(chosen), _SAMPLED_FOOTERS_ERROR)

    def read_rows(final: Dataset) -> SampleRows:
        with open_file(sampled, policy) as opened:
            return SampleRows.read(_first_batches(opened, sampled, final))

    remarks = [f"not usable, because of their types: {', '.join(nested[:MAX_NESTED])}"] if nested else []
    return TableSample(dataset, "parquet", columns, count, read_rows, remarks, nested=tuple(nested))


def _read_columns(reader: ParquetReader, columns: list[tuple[str, str]]) -> list[ColumnSample]:
    batch = next(reader.batches()).slice(0, _SAMPLED_VALUES)
    found = []
    for name, kind in columns:
        texts = TextColumn.of(batch.column(reader.columns[name])).take(np.arange(batch.num_rows)).to_pylist()
        values = tuple(text.decode(errors="replace") for text in texts)
        plain = "text" if kind.startswith(("string", "large", "binary", "dict")) else kind
        found.append(ColumnSample(name, plain, values))
    return found


def _first_batches(opened: object, sampled: Listed, final: Dataset) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the first batch, and the rejects among them."""
    batches = read_parquet_rows(opened, sampled.path, final.dedup, ALL)  # type: ignore[arg-type]
    yield from islice(batches, 3)
