"""Inspection of CSV and JSON lines files: dialect, encoding, columns and rows, from the first bytes of some files."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import pyarrow as pa

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SourceError
from laion_assets.http.sources.dataset_policy import source_policy
from laion_assets.inspection.csv_dialect import QUOTES, SEPARATORS, detect_dialect
from laion_assets.inspection.encoding import detect_encoding
from laion_assets.inspection.row_count import CountedSample, RowCount, estimate_rows
from laion_assets.inspection.sample_rows import ALL, SampleRows
from laion_assets.inspection.source_files import SourceFiles
from laion_assets.inspection.table_columns import ColumnSample
from laion_assets.inspection.table_sample import Choices, TableSample
from laion_assets.inspection.text_sample import TextSample, choose_files, read_sample
from laion_assets.stages.dedup_parquet.readers.encodings import to_utf8
from laion_assets.stages.dedup_parquet.readers.file_format import READERS, file_format
from laion_assets.stages.dedup_parquet.readers.json_lines import LineReader

_DIALECT_BYTES = 256 << 10
_SAMPLED_VALUES = 1_000
_PARTS = 8
_COMPRESSED_ERROR = 0.15
"""Least relative error for compressed files: the start of a file is compressed less than the rest."""
_UNKNOWN_SIZE_ERROR = 0.5
"""Relative error of the number of rows if a server does not report the sizes of its files."""
_WORDS = {"|": "'|'", ",": "','", "\t": "tab", ";": "';'"}


def inspect_text(files: SourceFiles, choices: Choices) -> TableSample:
    """Inspect CSV or JSON lines files. Raises SourceError."""
    policy = source_policy(files.dataset)
    chosen = choose_files(files.files)
    samples = [read_sample(file, policy) for file in chosen]
    filled = [sample for sample in samples if sample.data.strip()]
    if not filled:
        raise SourceError(f"{files.files[0].url} is empty" + (", and so are the others." if len(samples) > 1 else "."))
    encoding = choices.encoding or detect_encoding(filled[0].data, filled[0].file.url)
    text = b"".join(_convert(filled[0], encoding))[:_DIALECT_BYTES]
    text = text[: text.rfind(b"\n") + 1] if len(text) == _DIALECT_BYTES and b"\n" in text else text
    is_json = files.format == "json_lines" or text.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{")
    dataset = replace(files.dataset, dedup=replace(files.dataset.dedup, encoding=encoding))
    if is_json:
        columns, words = _inspect_json(text, filled[0].file.url), "JSON lines"
        if file_format(filled[0].file.path, dataset.dedup) != "json_lines":
            dataset = replace(dataset, dedup=replace(dataset.dedup, format="json_lines"))
    else:
        dataset, columns, words = _inspect_csv(dataset, text, choices)
    remarks = [f"{sample.file.path}: {sample.broken}, its rest cannot be read" for sample in samples if sample.broken]
    compressions = "+".join(sorted({sample.compression for sample in samples if sample.compression}))
    return TableSample(
        dataset,
        ", ".join(filter(None, (words, encoding, compressions))),
        columns,
        _estimate(files, samples, [_count_rows(sample, dataset) for sample in samples]),
        lambda final: SampleRows.join(SampleRows.read(_read_rows(sample, final)) for sample in filled),
        remarks,
        is_csv=not is_json,
    )


def _estimate(files: SourceFiles, samples: list[TextSample], counted: list[CountedSample]) -> RowCount:
    mean = sum(sample.stored for sample in samples) / len(samples)
    total = files.size if files.size >= 0 else round(mean * len(files.files))
    found = estimate_rows(counted, total, len(files.files))
    if not found.error:
        return found
    least = (
        _UNKNOWN_SIZE_ERROR if files.size < 0 else _COMPRESSED_ERROR if any(each.compression for each in samples) else 0
    )
    return replace(found, error=max(found.error, least))


def _inspect_csv(dataset: Dataset, text: bytes, choices: Choices) -> tuple[Dataset, list[ColumnSample], str]:
    separators = (choices.separator,) if choices.separator else SEPARATORS
    quotes = QUOTES if choices.quote is None else (choices.quote,)
    table = detect_dialect(text, separators, quotes)
    if not table.names:
        raise SourceError("The first line is not a CSV record in any known dialect. Set --separator and --quote.")
    if not any(table.columns):
        raise SourceError(f"There are no rows after the header line {', '.join(table.names)}.")
    names = () if table.has_header else table.names
    dedup = replace(dataset.dedup, separator=table.separator, quote=table.quote, column_names=names)
    columns = [
        ColumnSample(name, "text", tuple(values[:_SAMPLED_VALUES]))
        for name, values in zip(table.names, table.columns, strict=True)
    ]
    separator = _WORDS.get(table.separator, repr(table.separator))
    quote = f"quote {table.quote}" if table.quote else "no quotes"
    header = "header line" if table.has_header else "no header line"
    return replace(dataset, dedup=dedup), columns, f"CSV, separator {separator}, {quote}, {header}"


def _inspect_json(text: bytes, url: str) -> list[ColumnSample]:
    """Return the keys of the first objects with their values. Keys with lists or objects are left out."""
    if text.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"["):
        raise SourceError(
            f"{url} is a JSON array, not JSON lines (one object a line). Convert it, for example with "
            "jq -c '.[]' FILE > FILE.jsonl."
        )
    values: dict[str, list[str]] = {}
    nested: set[str] = set()
    lines = (line for batch in LineReader([text]).batches() for _, line in batch.lines)
    objects = 0
    for line in islice(lines, _SAMPLED_VALUES):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(found, dict):
            continue
        objects += 1
        for key, value in found.items():
            if isinstance(value, dict | list):
                nested.add(key)
            else:
                values.setdefault(key, []).append(_to_text(value))
    if not objects:
        raise SourceError(f"{url} has no JSON object on any of its first lines. JSON lines have one object a line.")
    return [ColumnSample(key, "text", tuple(found)) for key, found in values.items() if key not in nested]


def _to_text(value: Any) -> str:
    text = "" if value is None else value if isinstance(value, str) else str(value).lower()
    return text.encode(errors="replace").decode()


def _convert(sample: TextSample, encoding: str) -> Iterator[bytes]:
    return to_utf8(iter([_whole_lines(sample, encoding)]), encoding)


def _whole_lines(sample: TextSample, encoding: str) -> bytes:
    """Return the sample without its incomplete last line."""
    if sample.is_whole and not sample.broken:
        return sample.data
    newline = {"utf-16": b"\n\0", "utf-16-le": b"\n\0", "utf-16-be": b"\0\n"}.get(encoding, b"\n")
    if encoding == "utf-16" and sample.data.startswith(b"\xfe\xff"):
        newline = b"\0\n"
    end = sample.data.rfind(newline)
    while end > 0 and end % len(newline):
        end = sample.data.rfind(newline, 0, end + len(newline) - 1)
    return sample.data[: end + len(newline)] if end >= 0 else sample.data


def _read_rows(sample: TextSample, dataset: Dataset) -> Iterator[pa.RecordBatch]:
    read = READERS[file_format(sample.file.path, dataset.dedup)]
    whole = io.BytesIO(_whole_lines(sample, dataset.dedup.encoding))
    return read(whole, sample.file.path, dataset.dedup, ALL)


def _count_rows(sample: TextSample, dataset: Dataset) -> CountedSample:
    """Count the rows of a sample, malformed ones included, and measure them in parts."""
    text = b"".join(_convert(sample, dataset.dedup.encoding))
    rows = SampleRows.read(_read_rows(sample, dataset), 0)
    count = rows.accepted + rows.reasons.total()
    lines = text.splitlines()
    step = max(len(lines) // _PARTS, 1)
    parts = [lines[start : start + step] for start in range(0, len(lines), step)]
    means = tuple(sum(map(len, part)) / len(part) + 1 for part in parts if len(part) == step)
    size = sample.file.size if sample.file.size >= 0 else sample.stored
    return CountedSample(count, sample.stored, size, sample.is_whole and not sample.broken, means)
