"""The likely fix if `dedup_parquet` kept too few rows: the setting that does not fit the columns of the files."""

import gzip
from collections import Counter

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IntegrityError
from laion_assets.stages.raw_csv.handle import RAW_CSV
from laion_assets.store.manifest import WHOLE, read_manifest
from laion_assets.store.store import Store
from laion_assets.tables.row_reasons import Reason, file_without

_HEADER_BYTES = 64 << 10
_MAX_COLUMNS = 20
_SEPARATORS = ",\t;|"
_FIXES = {
    Reason.URL_MISSING: "set dedup.url_column to the column of the URLs",
    Reason.URL_WITHOUT_SCHEME: "set dedup.url_column to the column of the URLs",
    file_without("URL"): "set dedup.url_column to the column of the URLs",
    file_without("TEXT"): "set dedup.caption_column to the column of the captions",
}


def advise(dataset: Dataset, reasons: Counter[str]) -> str:
    """Return the columns of the first source file, and the setting to correct; empty if the reasons show no setting."""
    (reason, _), *_ = reasons.most_common(1) or [("", 0)]
    is_missing = reason.startswith(file_without(""))
    if reason not in _FIXES and not is_missing and reason != Reason.WRONG_TOKEN_COUNT:
        return ""
    file, columns = _read_header(dataset)
    if not columns:
        return f"Likely fix: {_FIXES[reason]}." if reason in _FIXES else ""
    found = f"The file {file} has the columns {', '.join(columns[:_MAX_COLUMNS])}"
    other = next((sign for sign in _SEPARATORS if len(columns) == 1 and sign in columns[0]), "")
    if other:
        found = f"The file {file} has one column, {columns[0]!r}, with dedup.separator {dataset.dedup.separator!r}"
        return f"{found}: set dedup.separator to {other!r}."
    if reason in _FIXES:
        return f"{found}: {_FIXES[reason]}."
    if is_missing:
        return f"{found}: leave the missing one out of dedup.required_columns."
    return f"{found}: check dedup.separator."


def _read_header(dataset: Dataset) -> tuple[str, list[str]]:
    """Return the path below the source and the columns of the first CSV file; empty if there is none to read."""
    store = Store.of(dataset)
    try:
        manifest = None if dataset.published else read_manifest(store, RAW_CSV, WHOLE)
        paths = sorted(entry.path for entry in manifest.files) if manifest else []
        path = next(path for path in paths if path.lower().endswith((".csv", ".csv.gz")))
        with store.open(path) as file:
            opened = gzip.GzipFile(fileobj=file) if path.lower().endswith(".gz") else file
            line = opened.readline(_HEADER_BYTES)
    except (StopIteration, OSError, EOFError, IntegrityError):
        return "", []
    text = line.decode("utf-8-sig", "replace").strip()
    columns = [name.strip().strip('"') for name in text.split(dataset.dedup.separator)]
    return path.removeprefix(f"{RAW_CSV}/"), columns if text else []
