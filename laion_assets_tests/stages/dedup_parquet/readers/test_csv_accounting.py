"""Every byte of a CSV file is in a row, in a reject or in the header."""

import gzip
import io
import re

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from laion_assets.stages.dedup_parquet.readers.csv_bytes import read_blocks
from laion_assets.stages.dedup_parquet.readers.csv_records import RecordReader
from laion_assets.tables.table_limits import TableLimits
from laion_assets_tests.stages.dedup_parquet.tables import HEADER, Read, row, table

ROWS = [row(URL=f"http://a.test/{number}.jpg", TEXT=f"caption {number}") for number in range(5)]
BOM = b"\xef\xbb\xbf"


def records_of(pieces: list[bytes]) -> tuple[list[str] | None, list[bytes]]:
    """Return the header of a file, and the bytes of its records and rejects in order."""
    reader = RecordReader(pieces)
    found: dict[int, bytes] = {}
    for records in reader.records():
        these = [(number, records.raw(row)) for row, number in enumerate(records.numbers.tolist())]
        these += [(reject.number, reject.raw) for reject in records.rejects]
        assert not {number for number, _ in these} & found.keys()
        found |= these
    assert sorted(found) == list(range(1, len(found) + 1))
    return reader.header, [found[number] for number in sorted(found)]


def without_line_ends(content: bytes) -> bytes:
    return re.sub(rb"[\r\n]", b"", content)


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("columns", [None, ["URL", "TEXT", "similarity"], ["URL", "TEXT", "similarity", "NSFW"]])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda content: BOM + content])
def test_rows_are_read_with_all_line_ends(end: str, last: bool, columns: list[str] | None, pack) -> None:  # type: ignore[no-untyped-def]
    content = table(ROWS, columns, end) if columns else table(ROWS, end=end)
    read = Read(pack(content if last else content.removesuffix(end.encode())))
    assert read.captions == [f"caption {number}" for number in range(5)]
    assert not read.rejects


def test_a_header_that_has_more_columns_than_the_lines_after_a_bare_cr_counts_them() -> None:
    content = b"URL|TEXT|similarity|NSFW\r" + b"http://a.test/1|a|0.3\r" * 5
    assert Read(content).reasons == ["wrong_token_count"] * 5


def test_all_three_line_ends_in_one_file_are_read() -> None:
    lines = table(ROWS).splitlines()
    for ends in ([b"\n", b"\r", b"\r\n", b"\r", b"\n", b"\r"], [b"\r", b"\n", b"\r\n", b"\r", b"\r", b"\n"]):
        read = Read(b"".join(line + end for line, end in zip(lines, ends, strict=True)))
        assert read.captions == [f"caption {number}" for number in range(5)]
        assert not read.rejects


def test_rows_that_end_in_bare_cr_after_a_header_that_does_not_are_read_in_bounded_pieces() -> None:
    body = table(ROWS, end="\r").split(b"\r", 1)[1]
    times = (3 << 20) // len(body)
    read = Read(HEADER + body * times)
    assert len(read.rows) == 5 * times
    assert not read.rejects


def test_bare_cr_in_a_caption_stays_in_a_file_with_newlines() -> None:
    rows = [row(TEXT="a\rb"), row(TEXT="http://a.test/\rb")]
    assert Read(table(rows)).captions == ["a\rb", "http://a.test/\rb"]


def test_a_quoted_line_end_in_a_file_of_bare_cr_is_kept_as_a_newline() -> None:
    assert Read(table([row(TEXT="two\rlines"), row()], end="\r")).captions == ["two\nlines", "a caption"]


@pytest.mark.parametrize(
    ("content", "records"),
    [
        (b"http://a.test/1|one|0.3\nhttp://a.test/2|two|0.3\n", 2),
        (b"http://a.test/1|one|0.3\rhttp://a.test/2|two|0.3\r", 2),
        (b'URL|TEXT|"similarity\nhttp://a.test/2|two|0.3"\n', 1),
        (b'URL|TEXT|"similarity\nhttp://a.test/2|two|0.3\n', 2),
    ],
)
def test_first_line_that_is_not_a_header_is_counted_as_a_record(content: bytes, records: int) -> None:
    read = Read(content)
    assert read.state == "file_with_bad_header"
    assert read.reasons == ["file_with_bad_header"] * records
    assert without_line_ends(b"".join(each["raw"] for each in read.rejects)) == without_line_ends(content)


def test_blocks_of_very_short_lines_are_split_in_bounded_steps() -> None:
    lines = 150_000
    sizes = [
        len(records.numbers) + len(records.rejects) for records in RecordReader([b"URL\n" + b"x|\n" * lines]).records()
    ]
    assert sum(sizes) == lines
    assert max(sizes) <= 1 << 16


def test_quoted_record_across_two_steps_is_one_record() -> None:
    before = b"a|b\n" * ((1 << 16) - 1)
    _, found = records_of([b"URL|TEXT\n" + before + b'c|"two\nlines\nthree"\nd|e\n'])
    assert found[-2:] == [b'c|"two\nlines\nthree"', b"d|e"]
    assert len(found) == (1 << 16) + 1


def test_gzip_over_the_expansion_limit_is_truncated_and_counted() -> None:
    limits = TableLimits(max_expansion=1)
    line = b"http://a.test/1|a|0.3\n"
    content = gzip.compress(b"URL|TEXT|similarity\n" + line * ((80 << 20) // len(line)))
    reader = RecordReader(read_blocks(io.BytesIO(content), limits))
    sound = sum(len(records.numbers) for records in reader.records())
    assert reader.broken == "expansion_limit"
    assert 60 << 20 < sound * len(line) <= 64 << 20
    plain = gzip.decompress(content)
    assert sum(map(len, read_blocks(io.BytesIO(plain), limits))) == len(plain), (
        "a file that is not compressed has no limit"
    )


_PIECES = st.sampled_from(
    [
        *(b"\r", b"\n", b"\r\n", b'"', b'""', b"|", b"a", b"http://a.test/1", b"\xff", b"\0", BOM, b" ", b"URL|TEXT"),
        *(b"URL|TEXT\r", b"http://a.test/1|b\r", b"http://a.test/1|b\n", b'http://a.test/1|"b\n'),
    ]
)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_PIECES, max_size=25), st.integers(1, 40))
@example([b"URL|TEXT\r", b"\n"], 1)
@example([b"\r", b"\r", b"URL|TEXT\r", b"http://a.test/1|b\r"], 3)
@example([b'"', b"\r", b"\n", b'"'], 2)
@example([b"URL|TEXT", b"\n", b"http://a.test/1|b\r", b"http://a.test/1|b\r"], 7)
def test_no_byte_of_a_file_is_lost_or_read_twice(pieces: list[bytes], size: int) -> None:
    """Header and records together are the file without line ends, for all block boundaries."""
    content = b"".join(pieces)
    header, found = records_of([content[start : start + size] for start in range(0, len(content), size)])
    assert (header, found) == records_of([content])
    together, whole = without_line_ends(b"".join(found)), without_line_ends(content.removeprefix(BOM))
    assert whole.endswith(together)
    if not header:
        assert together == whole
    else:
        first_line = whole[: len(whole) - len(together)].decode(errors="replace")
        assert re.sub(r'["|\s]', "", first_line) == re.sub(r'["|\s]', "", "".join(header))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_random_bytes_become_rows_and_rejects_or_an_empty_file(content: bytes, packed: bool) -> None:
    read = Read(gzip.compress(content) if packed else content)
    numbers = [each["source_row"] for each in [*read.rows, *read.rejects]]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert numbers or read.state in ("empty", "header_only") or read.state.startswith("file_with")
