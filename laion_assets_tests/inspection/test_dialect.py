"""The dialect, the encoding and the columns of a file are found from its first rows."""

import csv
import io

import pytest

from laion_assets.errors import SourceError
from laion_assets.inspection.csv_dialect import detect_dialect
from laion_assets.inspection.encoding import detect_encoding
from laion_assets.inspection.table_columns import ColumnSample, rank_caption_columns, rank_url_columns

ROWS = [(f"https://a.test/{n}.jpg", f"a, b; c | {n}" if n % 3 else f'the "{n}"\tcat', str(n)) for n in range(60)]


def written(separator: str, quotechar: str = '"', header: bool = True) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=separator, quotechar=quotechar, lineterminator="\n")
    writer.writerows([*([("link", "text", "n")] if header else []), *ROWS])
    return buffer.getvalue().encode()


@pytest.mark.parametrize("separator", ["|", ",", "\t", ";"])
@pytest.mark.parametrize("header", [True, False])
def test_separator_and_header_are_found(separator: str, header: bool) -> None:
    table = detect_dialect(written(separator, header=header))
    assert (table.separator, table.quote, table.has_header) == (separator, '"', header)
    assert table.names == (("link", "text", "n") if header else ("column_1", "column_2", "column_3"))
    assert (table.url_rows, table.rejected) == (60, 0)
    assert table.columns[1] == tuple(text for _, text, _ in ROWS)


def test_a_file_with_single_quote_signs_is_read_without_quotes() -> None:
    lines = [f'https://a.test/{n}.jpg\t"open {n}' for n in range(40)]
    table = detect_dialect("\n".join(lines).encode())
    assert (table.separator, table.quote, table.has_header, table.rejected) == ("\t", "", False, 0)


def test_a_list_of_urls_has_one_column() -> None:
    table = detect_dialect("\n".join(url for url, _, _ in ROWS).encode())
    assert (table.names, table.has_header, table.url_rows) == (("column_1",), False, 60)


def test_malformed_rows_do_not_change_the_dialect() -> None:
    content = written(",") + b'https://a.test/x,"never closed\nhttps://a.test/y\n'
    table = detect_dialect(content)
    assert (table.separator, table.quote, table.url_rows) == (",", '"', 60)
    assert table.rejected == 2


@pytest.mark.parametrize(
    ("text", "stored", "found"),
    [
        ("Café – naïve", "utf-8", "utf-8"),
        ("日本語", "utf-16", "utf-16"),
        ("plain text only", "utf-16-le", "utf-16-le"),
        ("plain text only", "utf-16-be", "utf-16-be"),
        ("Der Hund läuft über die große Straße und fällt", "windows-1252", "any superset"),
        ("Кошка сидит на большом окне и смотрит на улицу", "windows-1251", "windows-1251"),
        ("猫が窓の上に座って通りを見ています", "shift_jis", "any superset"),
    ],
)
def test_encodings_are_found(text: str, stored: str, found: str) -> None:
    content = "".join(f"https://a.test/{n}.jpg,{text} {n}\n" for n in range(50)).encode(stored)
    detected = detect_encoding(content, "f.csv")
    assert content.decode(detected) == content.decode(stored)
    assert found in (detected, "any superset")


def test_a_few_invalid_bytes_leave_a_file_utf8() -> None:
    content = b"https://a.test/1.jpg,caf\xc3\xa9\n" * 200 + b"https://a.test/2.jpg,\xff\xfe\n"
    assert detect_encoding(content, "f.csv") == "utf-8"


def column(name: str, *values: str) -> ColumnSample:
    return ColumnSample(name, "text", values)


def test_columns_are_ranked_by_name_and_values() -> None:
    thumb = column("thumbnail", "https://a.test/t1", "https://a.test/t2")
    url = column("URL", "https://a.test/1", "")
    page = column("page", "https://a.test/p1", "no url")
    text, words = column("caption", "a", "b"), column("notes", "some words here", "more words here")
    size, code = column("width", "1", "2"), column("code", "x1", "x2")
    columns = [thumb, page, url, size, code, words, text]
    assert [each.name for each in rank_url_columns(columns)] == ["URL", "thumbnail", "page"]
    assert [each.name for each in rank_caption_columns(columns, url)] == ["caption", "notes"]
    assert [each.kept_type for each in (size, text, column("s", "0.5", ""))] == ["int64", "string", "float64"]


def test_no_column_of_urls_is_an_error_with_the_columns() -> None:
    with pytest.raises(SourceError, match=r"The columns are a, b\..*--url-column"):
        rank_url_columns([column("a", "x"), column("b", "/images/1.jpg")])
