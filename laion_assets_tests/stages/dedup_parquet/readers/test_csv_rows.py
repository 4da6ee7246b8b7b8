"""Reader of CSV files: each record becomes a row, or is quarantined with a reason."""

import gzip
import io
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_assets.stages.dedup_parquet.readers import csv_bytes
from laion_assets.stages.dedup_parquet.readers.csv_quotes import MAX_RECORD_BYTES
from laion_assets.tables.columns import RAW_BYTES
from laion_assets.tables.row_reasons import Note
from laion_assets.tables.table_limits import TableLimits
from laion_assets_tests.stages.dedup_parquet.tables import COLUMNS, HEADER, Read, row, table

GOOD = b"7|http://a.test/7.jpg|seven|1|2|?|UNLIKELY|0.3\n"


def test_columns_are_found_by_name_in_any_order_and_others_are_ignored() -> None:
    columns = ["similarity", "TEXT", "language", "URL", "WIDTH"]
    read = Read(table([row(TEXT="hello", WIDTH="30") | {"language": "en"}], columns))
    (found,) = read.rows
    assert (found["TEXT"], found["URL"], found["WIDTH"], found["similarity"]) == (
        "hello",
        "http://a.test/1.jpg",
        30,
        0.31,
    )
    assert found["SAMPLE_ID"] is found["HEIGHT"] is found["LICENSE"] is found["NSFW"] is None


@pytest.mark.parametrize("missing", ["URL", "TEXT", "similarity"])
def test_file_without_a_required_column_is_left_out_and_its_records_are_counted(missing: str) -> None:
    columns = [name for name in COLUMNS if name != missing]
    read = Read(table([row(TEXT="a\nb"), row(), row()], columns) + b"too|few\n")
    assert not read.rows
    assert read.reasons == [f"file_without_{missing.lower()}"] * 4
    assert read.state == f"file_without_{missing.lower()}"


def test_file_with_a_duplicate_column_is_left_out() -> None:
    assert Read(b"URL|TEXT|TEXT|similarity\nhttp://a/|b|c|0.3\n").reasons == ["file_with_repeated_column"]


@pytest.mark.parametrize("line", [b"1|http://a.test/1|a | b|1|2|?|UNLIKELY|0.3\n", b"1|http://a.test/1|few\n", b"x\n"])
def test_record_with_a_wrong_number_of_tokens_is_quarantined(line: bytes) -> None:
    read = Read(HEADER + GOOD + line + GOOD)
    assert read.reasons == ["wrong_token_count"]
    assert read.rejects[0]["raw"] == line.rstrip(b"\n")
    assert [each["source_row"] for each in read.rows] == [1, 3]
    assert [each["similarity"] for each in read.rows] == [0.3, 0.3]


def test_quoted_newlines_separators_and_quotes_are_one_row() -> None:
    captions = [
        'a "quoted" word',
        "a|b|c",
        "two\nlines",
        "crlf\r\ninside",
        '"',
        '""',
        'ends with "',
        '|"\n|"|',
        "plain",
    ]
    read = Read(table([row(TEXT=caption) for caption in captions]))
    assert read.captions == captions
    assert not read.rejects


@pytest.mark.parametrize("first", [("TEXT", "URL", "similarity"), ("URL", "similarity", "TEXT"), COLUMNS])
def test_quoted_caption_that_contains_a_row_never_becomes_two_rows(first: tuple[str, ...]) -> None:
    told = "|".join(str(row(URL="http://told.test/")[name]) for name in first)
    for caption in (f"x\n{told}", f"x\n{told}\ny", f"{told}\n{told}"):
        read = Read(table([row(TEXT=caption), row(TEXT="after")], first))
        assert "http://told.test/" not in [each["URL"] for each in read.rows]
        assert read.captions in ([caption, "after"], ["after"])
        assert len(read.rows) + len(read.rejects) == 2


def test_unclosed_quote_costs_one_row() -> None:
    open_quote = b'1|http://a.test/1|"never closes|1|2|?|UNLIKELY|0.3\n'
    for after in (GOOD, GOOD * 50, table([row(TEXT='quoted "word"'), row(TEXT="a\nb")]).split(b"\n", 1)[1]):
        good = Read(HEADER + after).captions
        read = Read(HEADER + GOOD + open_quote + after)
        assert read.reasons == ["unclosed_quote"]
        assert read.captions == ["seven", *good]


def test_quote_that_is_closed_in_a_later_row_costs_one_row() -> None:
    open_quote = b'1|http://a.test/1|"never closes|1|2|?|UNLIKELY|0.3\n'
    inch = b'2|http://a.test/2|a pipe of 5"|1|2|?|UNLIKELY|0.3\n'
    read = Read(HEADER + open_quote + GOOD + inch + GOOD)
    assert read.reasons == ["unclosed_quote"]
    assert read.captions == ["seven", 'a pipe of 5"', "seven"]


def test_text_after_a_closing_quote_is_quarantined() -> None:
    assert Read(HEADER + b'1|http://a.test/1|"a red" circle|1|2|?|UNLIKELY|0.3\n' + GOOD).reasons == ["bad_quote"]


def test_quotes_inside_an_unquoted_field_are_text() -> None:
    assert Read(HEADER + b'1|http://a.test/1|a "red" circle|1|2|?|UNLIKELY|0.3\n').captions == ['a "red" circle']


def test_open_quote_and_endless_line_are_read_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = []
    of = csv_bytes.read_blocks
    filler = b"x" * 1000 + b"\n"
    content = (
        HEADER + GOOD + b'1|http://a.test/1|"open|1\n' + filler * 9_000 + b"y" * (3 * MAX_RECORD_BYTES) + b"\n" + GOOD
    )
    monkeypatch.setattr(csv_bytes, "BLOCK_BYTES", 2 * MAX_RECORD_BYTES)
    largest = [len(block) for block in of(io.BytesIO(content), TableLimits())]
    assert max(largest) <= 3 * MAX_RECORD_BYTES
    read = Read(content)
    assert read.captions == ["seven", "seven"]
    assert read.reasons == ["unclosed_quote", *["wrong_token_count"] * 9_000, "record_too_long"]
    assert (len(read.rejects[-1]["raw"]), read.rejects[-1]["raw_bytes"]) == (RAW_BYTES, 3 * MAX_RECORD_BYTES)


def test_bom_crlf_blank_lines_and_a_missing_last_newline_change_nothing() -> None:
    rows = [row(TEXT="one"), row(TEXT="two\nlines"), row(TEXT="three")]
    plain = Read(table(rows)).rows
    for content in (
        b"\xef\xbb\xbf" + table(rows),
        table(rows, end="\r\n"),
        table(rows)[:-1],
        b"\n\n" + table(rows).replace(b'lines"', b'lines"') + b"\n\r\n",
        gzip.compress(table(rows)),
        gzip.compress(table(rows)[:50]) + gzip.compress(table(rows)[50:]) + b"\0" * 100,
    ):
        assert Read(content).rows == plain
        assert not Read(content).rejects


@pytest.mark.parametrize(("content", "state"), [(b"", "empty"), (b"\n", "empty"), (HEADER, "header_only")])
def test_empty_files_are_counted(content: bytes, state: str) -> None:
    read = Read(content)
    assert (read.rows, read.rejects, read.state) == ([], [], state)


def test_truncated_gzip_keeps_the_rows_before_the_damage_and_is_counted() -> None:
    rng = random.Random(1)
    rows = [row(TEXT=f"{rng.random()} caption {number}") for number in range(2_000)]
    whole = gzip.compress(table(rows))
    read = Read(whole[: len(whole) // 2])
    assert 100 < len(read.rows) < 2_000
    assert read.captions == [each["TEXT"] for each in rows[: len(read.rows)]]
    assert read.reasons == ["truncated_gzip"]
    assert read.state == "truncated_gzip"
    damaged = bytearray(whole)
    damaged[-6] ^= 0xFF
    assert Read(bytes(damaged)).reasons == ["corrupt_gzip"]


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        (b"caf\xe9", "invalid_utf8"),
        (b"\xed\xa0\x80", "invalid_utf8"),
        (b"a\0b", "nul_byte"),
        (b"\xc0\x80", "invalid_utf8"),
    ],
)
def test_invalid_text_quarantines_only_its_row(caption: bytes, reason: str) -> None:
    for quoted in (caption, b'"' + caption + b'"'):
        bad = b"1|http://a.test/1|" + quoted + b"|1|2|?|UNLIKELY|0.3\n"
        read = Read(HEADER + GOOD + bad + GOOD)
        assert read.reasons == [reason]
        assert read.rejects[0]["raw"] == bad[:-1]
        assert read.captions == ["seven", "seven"]


def test_captions_of_60000_characters_pass_and_control_characters_are_normalised() -> None:
    long = "é" * 60_000
    read = Read(
        table([row(TEXT=long), row(TEXT="a\x07b\x85c"), row(TEXT="\u202eabc\u202c"), row(TEXT="&amp;\tx\r\ny")])
    )
    assert read.captions == [long, "a b c", "abc", "&amp;\tx\r\ny"]
    assert [Note(each["notes"]) for each in read.rows] == [
        Note(0),
        Note.CAPTION_CONTROL_CHARACTERS,
        Note.CAPTION_BIDI_CONTROLS,
        Note(0),
    ]
    assert Read(table([row(TEXT="x" * 100_001)])).reasons == ["caption_too_long"]


_texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('|"\n\r\t"|'), max_size=30)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(_texts, st.sampled_from(["http://a.test/x", "https://b.test/?y=1|2"])), max_size=12))
def test_all_files_that_pandas_writes_are_read_back(rows: list[tuple[str, str]]) -> None:
    """All captions that pandas can write are read back, including a bare CR, which it does not quote."""
    read = Read(table([row(TEXT=caption, URL=url) for caption, url in rows]))
    assert len(read.rows) + len(read.rejects) == len(rows)
    for found in read.rows:
        caption = rows[found["source_row"] - 1][0]
        assert (found["TEXT"] or "") == "".join(
            c for c in caption if not "\u202a" <= c <= "\u202e" and not "\u2066" <= c <= "\u2069"
        )
    assert not read.rejects


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from([b'"', b"|", b"\n", b"\r\n", b"a", b"http://a.test/", GOOD, b'|"', b'"|', b"\xff"])),
    st.booleans(),
)
def test_random_bytes_neither_break_the_reader_nor_shift_columns(pieces: list[bytes], final_newline: bool) -> None:
    read = Read(HEADER + b"".join(pieces) + (b"\n" + GOOD if final_newline else b""))
    numbers = sorted(each["source_row"] for each in [*read.rows, *read.rejects])
    assert numbers == list(range(1, len(numbers) + 1))
    assert {each["similarity"] for each in read.rows} <= {0.3, None}


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 200),
    st.lists(st.sampled_from(['a "b"', "two\nlines", "x|y", "plain", '"']), min_size=1, max_size=30),
)
def test_result_does_not_depend_on_block_boundaries(size: int, captions: list[str]) -> None:
    from laion_assets.stages.dedup_parquet.readers.csv_records import RecordReader

    content = table([row(TEXT=caption) for caption in captions]) + b'1|http://b/|"open|1|2|?|UNLIKELY|0.3\n' + GOOD

    def tokens(blocks: list[bytes]) -> list[tuple[int, bytes]]:
        found = []
        for records in RecordReader(blocks).records():
            found += [(number, records.raw(row)) for row, number in enumerate(records.numbers.tolist())]
            found += [(each.number, b"!" + each.raw) for each in records.rejects]
        return sorted(found)

    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    assert tokens(pieces) == tokens([content])
