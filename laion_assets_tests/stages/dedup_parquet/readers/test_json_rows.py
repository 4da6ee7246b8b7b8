"""JSON lines files: every line is a row or a counted reject, whatever it holds."""

import gzip
import io
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laion_assets.dataset.identity import Positions
from laion_assets.stages.dedup_parquet.readers.csv_quotes import MAX_RECORD_BYTES
from laion_assets.stages.dedup_parquet.readers.file_format import file_format
from laion_assets.stages.dedup_parquet.readers.json_lines import LineReader
from laion_assets.stages.dedup_parquet.readers.json_rows import read_json_rows
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.tables.columns import MARK, REJECT, ROW
from laion_assets_tests.stages.dedup_parquet.tables import ONE

URL = "http://a.test/1.jpg"


def read(content: bytes, settings: DedupSettings | None = None) -> list[dict[str, Any]]:
    """Return the rows, rejects and the mark of a file, in the order of the file, the mark first."""
    batches = read_json_rows(io.BytesIO(content), "f.jsonl", settings or DedupSettings(), Positions(ONE, [0]))
    return sorted((row for batch in batches for row in batch.to_pylist()), key=lambda row: row["source_row"])


def lines(*objects: Any, end: str = "\n") -> bytes:
    return "".join(json.dumps(each) + end for each in objects).encode()


def reasons(content: bytes, settings: DedupSettings | None = None) -> list[str]:
    return [row["reason"] for row in read(content, settings) if row["kind"] == REJECT]


def test_keys_are_found_by_the_rules_for_columns_in_each_line() -> None:
    content = lines(
        {"URL": URL, "TEXT": "one", "similarity": 0.25, "width": 200.0},
        {"text": "two", "url": URL},
        {"url": URL, "caption": "three", "alt": "not used"},
        {"url": URL, "alt": "four"},
        {"url": URL, "text": None},
    )
    mark, *rows = read(content)
    assert [row["TEXT"] for row in rows] == ["one", "two", "three", "four", None]
    assert (rows[0]["similarity"], rows[0]["WIDTH"]) == (0.25, 200)
    assert mark["reason"] == "read"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n \r\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_line_ends_blank_lines_and_a_bom_are_no_rows(end: str, start: bytes) -> None:
    content = start + lines(*({"url": URL, "text": str(number)} for number in range(3)), end=end)
    for variant in (content, content.rstrip()):
        found = read(variant)
        assert [(row["source_row"], row["TEXT"]) for row in found[1:]] == [(1, "0"), (2, "1"), (3, "2")]


def test_malformed_lines_are_rejected_and_the_others_kept() -> None:
    good = lines({"url": URL})
    content = good.join(
        [
            b"",
            b'{"url": "http://a.test/2"\n',
            b"[1, 2]\n",
            b'"http://a.test/3"\n',
            b'{"url": ["http://a.test/4"]}\n',
            b'{"url": "http://a.test/\xff"}\n',
            b'{"url": "http://a.test/\\ud800"}\n',
            b'{"url": "http://a.test/5", "text": "a\x00b"}\n',
            b"[" * 100_000 + b"\n",
            b'{"URL": "http://a.test/6", "url": "", "Url": 1}\n',
            b'{"text": "no url"}\n',
            b"",
        ]
    )
    found = read(content)
    assert reasons(content) == [
        "invalid_json",
        "not_a_json_object",
        "not_a_json_object",
        "nested_value",
        "invalid_utf8",
        "invalid_utf8",
        "nul_byte",
        "invalid_json",
        "url_missing",
    ]
    assert sum(row["kind"] == ROW for row in found) == 11 + 1
    assert [row["source_row"] for row in found] == list(range(len(found)))


def test_numbers_keep_their_digits() -> None:
    content = b'{"key": 9007199254740993, "url": "%s", "big": %s}\n' % (URL.encode(), b"9" * 10_000)
    _, row = read(content, DedupSettings(keep_columns=("big",)))
    assert row["SAMPLE_ID"] == 9_007_199_254_740_993
    assert row["big"] == "9" * 10_000


def test_a_file_without_urls_is_marked_with_its_keys() -> None:
    mark, *_ = read(lines({"link": URL, "alt": "x"}, {"link": URL}))
    assert (mark["kind"], mark["reason"], mark["raw"]) == (MARK, "file_without_url", b"link, alt")


@pytest.mark.parametrize("content", [b"", b"\n\r\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_marked(content: bytes) -> None:
    assert [row["reason"] for row in read(content)] == ["empty"]


def test_a_huge_line_is_one_reject_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    huge = b'{"url": "' + b"x" * (5 * MAX_RECORD_BYTES) + b'"}\n'
    content = lines({"url": URL}) + huge + lines({"url": URL})
    reader = LineReader(content[start : start + 100_000] for start in range(0, len(content), 100_000))
    held = [sum(len(line) for _, line in batch.lines) for batch in reader.batches()]
    assert max(held) < 200_000
    assert reader.count == 3
    (reject,) = [row for row in read(content) if row["kind"] == REJECT]
    assert (reject["reason"], reject["source_row"], reject["raw_bytes"]) == ("record_too_long", 2, len(huge) - 1)


def test_a_truncated_gzip_keeps_its_whole_lines_and_counts_the_rest() -> None:
    content = lines(*({"url": f"http://a.test/{number * 7919 % 100_003}"} for number in range(5_000)))
    packed = gzip.compress(content)
    found = read(packed[: len(packed) * 2 // 3])
    rows = [row for row in found if row["kind"] == ROW]
    assert [row["reason"] for row in found if row["kind"] == REJECT] == ["truncated_gzip"]
    assert found[0]["reason"] == "truncated_gzip"
    assert 1_000 < len(rows) < 5_000
    assert found[-1]["source_row"] == len(rows) + 1


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_every_line_that_is_not_blank_is_a_row_or_a_reject(raw: list[bytes]) -> None:
    content = b"\n".join([*raw, *lines({"url": URL}, {"url": ""}).splitlines()])
    found = read(content)
    expected = sum(
        bool(line.strip()) for line in content.removeprefix(b"\xef\xbb\xbf").replace(b"\r", b"\n").split(b"\n")
    )
    kinds = Counter(row["kind"] for row in found)
    assert kinds[ROW] + kinds[REJECT] == expected
    assert [row["source_row"] for row in found] == list(range(expected + 1))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/B.JSONL", "json_lines"),
        ("a.ndjson.gz", "json_lines"),
        ("a.json.zst", "json_lines"),
        ("a.Parquet", "parquet"),
        ("a.jsonl.csv", "csv"),
        ("a.csv.gz", "csv"),
        ("a.tsv", "csv"),
        ("a.txt", "csv"),
    ],
)
def test_the_format_follows_from_the_name_unless_it_is_set(path: str, expected: str) -> None:
    assert file_format(path, DedupSettings()) == expected
    assert file_format(path, DedupSettings(format="csv")) == "csv"
