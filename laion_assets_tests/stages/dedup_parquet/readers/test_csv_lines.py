"""Vector code reads simple lines like `parse_record`."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from laion_assets.stages.dedup_parquet.readers.csv_lines import LineFields, Lines, find_text_fault
from laion_assets.stages.dedup_parquet.readers.csv_quotes import Fields, parse_record
from laion_assets.tables.row_reasons import Reason

HEADER = ["URL", "TEXT", "NSFW"]
PLACES = {name: place for place, name in enumerate(HEADER)}


@given(st.lists(st.text('ab|"\r ', max_size=14), max_size=8), st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=400, deadline=None)
@example(['a|"b ""c"" d"|e', '"|"|""|""""', 'a|"b"c|d"', '"a|b|c', 'a"|"b|c', "a|b|c", '"a""|"|b|c'], "\n")
def test_simple_line_has_the_fields_that_parse_record_reads(texts: list[str], end: str) -> None:
    data = "".join(text + end for text in texts).encode()
    lines = Lines.of(data, True)
    fields = LineFields.of(lines, b"|", len(HEADER))
    chosen = fields.simple.nonzero()[0]
    columns = fields.columns(lines, chosen, PLACES)
    for row, line in enumerate(chosen.tolist()):
        parsed = parse_record(data, int(lines.starts[line]), int(lines.stops[line]), b"|", True)
        assert isinstance(parsed, Fields)
        assert parsed.end == lines.stops[line] + 1
        assert [columns[name][row].as_py().encode() for name in HEADER] == parsed.values
    for line in set(range(len(lines.starts))) - set(chosen.tolist()):
        if b'"' not in lines.raw(line) and lines.raw(line):
            assert lines.raw(line).count(b"|") != 2


def test_pandas_quotes_are_simple() -> None:
    data = b'a|"b ""c"" d"|e\n"|"|""|""""\nx|y|z\n"a|b|c\na|"b"c|d"\n'
    lines = Lines.of(data, True)
    fields = LineFields.of(lines, b"|", 3)
    assert fields.simple.tolist() == [True, True, True, False, False]
    columns = fields.columns(lines, fields.simple.nonzero()[0], PLACES)
    assert columns["URL"].to_pylist() == ["a", "|", "x"]
    assert columns["TEXT"].to_pylist() == ['b "c" d', "", "y"]
    assert columns["NSFW"].to_pylist() == ["e", '"', "z"]


def test_lines_with_invalid_text_are_found() -> None:
    data = b"plain\ncaf\xe9\ncaf\xc3\xa9\nnul\0\n\xed\xa0\x80\nlast"
    found = Lines.of(data, True).find_text_faults()
    assert found == {1: Reason.INVALID_UTF8, 3: Reason.NUL_BYTE, 4: Reason.INVALID_UTF8}
    assert find_text_fault(b"caf\xc3\xa9") is None


@given(st.lists(st.one_of(st.binary(max_size=6), st.text(max_size=4).map(lambda text: text.encode(errors="replace")))))
@settings(max_examples=400, deadline=None)
@example(
    [
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xf4\x8f\xbf\xbf",
        b"\xe0\x9f\xbf",
        b"\xef\xbb\xbf",
        b"\x80",
        b"\xc3",
    ]
)
def test_lines_are_valid_text_if_they_decode(texts: list[bytes]) -> None:
    whole = [text.replace(b"\n", b"").replace(b"\r", b"") for text in texts]
    lines = Lines.of(b"".join(text + b"\n" for text in whole), True)
    expected = {line: why for line, text in enumerate(whole) if (why := find_text_fault(text))}
    assert lines.find_text_faults() == expected
