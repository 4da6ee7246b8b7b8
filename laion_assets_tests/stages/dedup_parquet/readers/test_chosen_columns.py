"""`dedup.url_column` and `dedup.caption_column` name the columns of URLs and captions, in CSV and in parquet files."""

import io
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.identity import Positions
from laion_assets.errors import SourceError
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET
from laion_assets.stages.dedup_parquet.readers.csv_rows import read_csv_rows
from laion_assets.stages.dedup_parquet.readers.parquet_rows import read_parquet_rows
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.stages.status import settings_digest
from laion_assets.tables.columns import MARK, REJECT, ROW

SETTINGS = DedupSettings(separator=",", required_columns=("URL", "TEXT"), url_column="image_link", caption_column="alt")
NAMES = ("id", "Image_Link", "alt", "url", "caption")
ROWS = [(str(n), f"https://example.org/{n}.jpg", f"cat {n}", "https://other.test/", "another text") for n in range(9)]
POSITIONS = Positions(SAMPLE.layout, tuple(range(4)))


def csv_of(names: tuple[str, ...] = NAMES) -> bytes:
    return "\n".join(",".join(row) for row in [names, *ROWS]).encode()


def parquet_of(names: tuple[str, ...] = NAMES) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table([pa.array(column) for column in zip(*ROWS, strict=True)], names=names), file)
    return file.getvalue()


def rows_of(content: bytes, settings: DedupSettings) -> list[dict[str, object]]:
    read = read_parquet_rows if content[:4] == b"PAR1" else read_csv_rows
    batches = read(io.BytesIO(content), "part", settings, POSITIONS)
    return [row for batch in batches for row in batch.to_pylist() if row["kind"] != MARK]


@pytest.mark.parametrize("content", [csv_of(), parquet_of()], ids=["csv", "parquet"])
def test_the_named_columns_are_used_instead_of_the_usual_ones(content: bytes) -> None:
    rows = rows_of(content, SETTINGS)
    assert {row["kind"] for row in rows} == {ROW}
    assert {(row["URL"], row["TEXT"]) for row in rows} == {(url, caption) for _, url, caption, _, _ in ROWS}


def test_without_the_settings_the_usual_columns_are_used() -> None:
    rows = rows_of(csv_of(), replace(SETTINGS, url_column="", caption_column=""))
    assert {(row["URL"], row["TEXT"]) for row in rows} == {("https://other.test/", "another text")}


def test_a_file_without_the_named_column_is_rejected_with_a_reason_or_an_error() -> None:
    names = ("id", "link", "alt", "url", "caption")
    rows = rows_of(csv_of(names), SETTINGS)
    assert [(row["kind"], row["reason"]) for row in rows] == [(REJECT, "file_without_url")] * len(ROWS)
    with pytest.raises(SourceError, match=r"no column image_link. It has id, link, .* Set dedup.url_column"):
        rows_of(parquet_of(names), SETTINGS)


def test_two_columns_with_the_name_are_an_error() -> None:
    names = ("image_link", "IMAGE_LINK", "alt", "url", "caption")
    with pytest.raises(SourceError, match="several columns for URL"):
        rows_of(parquet_of(names), replace(SETTINGS, url_column="Image_Link"))


def test_the_names_are_a_part_of_the_digest_only_where_they_are_set() -> None:
    named = replace(SAMPLE, dedup=replace(SAMPLE.dedup, url_column="image_link"))
    assert settings_digest(named, DEDUP_PARQUET) != settings_digest(SAMPLE, DEDUP_PARQUET)
