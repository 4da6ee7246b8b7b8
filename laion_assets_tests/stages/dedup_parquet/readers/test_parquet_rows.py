"""Rows of a parquet file have the same uid and values as the same rows of a CSV file."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.identity import Positions
from laion_assets.errors import SourceError
from laion_assets.stages.dedup_parquet.readers.csv_rows import read_csv_rows
from laion_assets.stages.dedup_parquet.readers.parquet_rows import read_parquet_rows
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.tables.columns import MARK

ROWS = [
    {
        "SAMPLE_ID": number,
        "URL": f"https://example.org/{number}.jpg",
        "TEXT": f"picture {number}",
        "HEIGHT": 480,
        "WIDTH": 640,
        "LICENSE": "?",
        "NSFW": "UNLIKELY",
        "similarity": 0.25 + number / 1000,
    }
    for number in range(50)
]


def read(table: pa.Table | bytes) -> list[dict[str, object]]:
    if isinstance(table, pa.Table):
        file = io.BytesIO()
        pq.write_table(table, file)
        table = file.getvalue()
    positions = Positions(SAMPLE.layout, tuple(range(4)))
    batches = read_parquet_rows(io.BytesIO(table), "part.parquet", DedupSettings(), positions)
    return [row for batch in batches for row in batch.to_pylist() if row["kind"] != MARK]


def test_parquet_and_csv_files_with_the_same_rows_have_the_same_batches() -> None:
    header = list(ROWS[0])
    lines = ["|".join(header), *("|".join(str(row[name]) for name in header) for row in ROWS)]
    positions = Positions(SAMPLE.layout, tuple(range(4)))
    batches = read_csv_rows(io.BytesIO("\n".join(lines).encode()), "part.parquet", DedupSettings(), positions)
    from_csv = [row for batch in batches for row in batch.to_pylist() if row["kind"] != MARK]
    assert read(pa.Table.from_pylist(ROWS)) == from_csv
    assert len(from_csv) == 50


def test_column_names_of_relaion_are_found() -> None:
    renamed = pa.Table.from_pylist(ROWS).select(["URL", "TEXT", "similarity", "WIDTH"])
    found = read(renamed.rename_columns(["url", "caption", "similarity", "width"]))
    assert {row["digest"] for row in found} == {row["digest"] for row in read(pa.Table.from_pylist(ROWS))}
    assert found[0]["WIDTH"] == 640
    assert found[0]["SAMPLE_ID"] is None


def test_bad_rows_are_rejected_with_their_number_and_content() -> None:
    table = pa.table({"URL": ["https://example.org/a.jpg", "no url", None], "TEXT": ["a", None, "c"]})
    rejects = [row for row in read(table) if row["reason"]]
    assert sorted((row["source_row"], row["reason"]) for row in rejects) == [
        (2, "url_without_scheme"),
        (3, "url_missing"),
    ]
    assert b"no url" in rejects[0]["raw"] + rejects[1]["raw"]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"PAR1 is not enough PAR1", "not a readable parquet file"),
        (b"", "not a readable parquet file"),
        (pa.table({"URL": ["https://example.org/a.jpg"]}), "no column TEXT"),
        (pa.table({"URL": [1], "TEXT": ["a"]}), "URL is int64, expected a string"),
    ],
)
def test_unreadable_file_is_refused_by_name(table: pa.Table | bytes, message: str) -> None:
    with pytest.raises(SourceError, match=f"part.parquet.*{message}"):
        read(table)


@pytest.mark.parametrize(
    "names",
    [
        {"WIDTH": "width", "HEIGHT": "height", "LICENSE": "license", "NSFW": "nsfw", "URL": "url", "TEXT": "caption"},
        {"SAMPLE_ID": "key", "TEXT": "TEXT", "NSFW": "NSFW"},
        {"TEXT": "alt_text"},
    ],
)
def test_published_column_names_are_recognised_and_other_columns_are_ignored(names: dict[str, str]) -> None:
    plain = pa.Table.from_pylist(ROWS)
    extra = {"hash": [1] * 50, "LANGUAGE": ["en"] * 50, "pwatermark": [0.1] * 50, "punsafe": [0.2] * 50}
    renamed = plain.rename_columns([names.get(name, name) for name in plain.column_names])
    for name, values in extra.items():
        renamed = renamed.append_column(name, pa.array(values))
    assert read(renamed) == read(plain)


def test_whole_numbers_may_be_stored_as_floats_and_strings_as_dictionaries() -> None:
    plain = pa.Table.from_pylist(ROWS)
    stored = plain.set_column(3, "HEIGHT", plain["HEIGHT"].cast(pa.float64()))
    stored = stored.set_column(6, "NSFW", plain["NSFW"].dictionary_encode())
    stored = stored.set_column(1, "URL", plain["URL"].cast(pa.large_string()))
    assert read(stored) == read(plain)


def test_invalid_utf8_rejects_only_its_row() -> None:
    texts = pa.array([b"fine", b"caf\xe9", b"also fine"]).view(pa.string())
    found = read(pa.table({"URL": [f"https://example.org/{n}" for n in range(3)], "TEXT": texts}))
    assert sorted((row["source_row"], row["reason"]) for row in found) == [(1, None), (2, "invalid_utf8"), (3, None)]


def test_damaged_data_is_refused_naming_the_file() -> None:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), file, compression="zstd")
    content = bytearray(file.getvalue())
    content[100:400] = b"\xff" * 300
    with pytest.raises(SourceError, match=r"part\.parquet is not a readable parquet file"):
        read(bytes(content))
