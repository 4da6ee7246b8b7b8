"""The format of a source file and its reader."""

import re

from laion_assets.stages.dedup_parquet.readers.csv_rows import read_csv_rows
from laion_assets.stages.dedup_parquet.readers.json_rows import read_json_rows
from laion_assets.stages.dedup_parquet.readers.parquet_rows import read_parquet_rows
from laion_assets.stages.dedup_parquet.settings import DedupSettings

READERS = {"csv": read_csv_rows, "json_lines": read_json_rows, "parquet": read_parquet_rows}
"""The reader of each format: a function of the open file, its `source_file`, the settings and the positions."""
_BY_NAME = {
    "parquet": re.compile(r"\.parquet\Z", re.IGNORECASE),
    "json_lines": re.compile(r"\.(jsonl|ndjson|json)(\.(gz|gzip|zst|zstd))?\Z", re.IGNORECASE),
}


def file_format(path: str, settings: DedupSettings) -> str:
    """Return the format of a file: `dedup.format`, or by the end of its name."""
    if settings.format != "auto":
        return settings.format
    return next((name for name, pattern in _BY_NAME.items() if pattern.search(path)), "csv")
