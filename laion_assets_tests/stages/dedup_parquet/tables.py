"""CSV files for tests, and the rows that are read from them."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.identity import Positions
from laion_assets.dataset.layout import Layout
from laion_assets.stages.dedup_parquet.readers.csv_rows import read_csv_rows
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.stages.status import settings_digest
from laion_assets.store.manifest import Counts, Manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction
from laion_assets.tables.columns import MARK, REJECT

COLUMNS = ("SAMPLE_ID", "URL", "TEXT", "HEIGHT", "WIDTH", "LICENSE", "NSFW", "similarity")
HEADER = "|".join(COLUMNS).encode() + b"\n"
ONE = Layout(parquet_files=1, shards=1, embedding_files=1, rows_per_shard=10_000)


def row(**fields: Any) -> dict[str, Any]:
    """Return a valid row with some fields changed."""
    sound = {"SAMPLE_ID": "1", "URL": "http://a.test/1.jpg", "TEXT": "a caption", "HEIGHT": "20", "WIDTH": "10"}
    return {**sound, "LICENSE": "?", "NSFW": "UNLIKELY", "similarity": "0.31", **fields}


def table(rows: Iterable[Mapping[str, Any]], columns: Iterable[str] = COLUMNS, end: str = "\n") -> bytes:
    """Return a CSV file as pandas writes it: separator `|`, minimal quoting, quotes doubled."""
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(columns), delimiter="|", lineterminator=end, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


class Read:
    """The result of `read_csv_rows`: `rows`, `rejects`, and the file's `state` and `header` from its mark."""

    def __init__(self, content: bytes, settings: DedupSettings | None = None) -> None:
        found = []
        for batch in read_csv_rows(io.BytesIO(content), "f.csv", settings or DedupSettings(), Positions(ONE, [0])):
            found += batch.to_pylist()
        found.sort(key=lambda each: each["source_row"])
        self.rows = [each for each in found if each["reason"] is None]
        self.rejects = [each for each in found if each["kind"] == REJECT]
        (mark,) = [each for each in found if each["kind"] == MARK]
        self.state, self.header = mark["reason"], mark["raw"]

    @property
    def reasons(self) -> list[str]:
        """Reasons of the rejects, in the order of the file."""
        return [each["reason"] for each in self.rejects]

    @property
    def captions(self) -> list[str | None]:
        """Captions of the rows, in the order of the file."""
        return [each["TEXT"] for each in self.rows]


def publish_csvs(dataset: Dataset, files: Mapping[str, bytes]) -> Manifest:
    """Commit CSV files as the dataset's raw_csv, without a fetch."""
    with open_transaction(Store.of(dataset), "raw_csv") as transaction:
        for path, content in files.items():
            Path(transaction.stage(f"raw_csv/{path}")).write_bytes(content)
        counts = Counts(len(files), len(files))
        return transaction.commit(counts, settings=settings_digest(dataset, "raw_csv"), inputs="")


quiet: Callable[[str], None] = lambda line: None  # noqa: E731
