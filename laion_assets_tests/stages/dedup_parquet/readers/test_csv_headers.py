"""Headers of CSV files: all column names of parquet files, required columns, and files that are left out."""

import pytest

from laion_assets.stages.dedup_parquet.build import summarise_left_out
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.tables.column_names import find_columns
from laion_assets.tables.columns import WANTED_COLUMNS
from laion_assets_tests.stages.dedup_parquet.tables import Read

VALUES = {
    "SAMPLE_ID": "7",
    "URL": "http://a.test/7.jpg",
    "TEXT": "seven",
    "HEIGHT": "20",
    "WIDTH": "10",
    "LICENSE": "?",
    "NSFW": "UNLIKELY",
    "similarity": "0.31",
}


def one_row(names: dict[str, str], extra: str = "") -> bytes:
    """Return a CSV file of one row with other column names."""
    header = [names.get(name, name) for name in VALUES]
    return f"{'|'.join(header)}{extra}\n{'|'.join(VALUES.values())}{'|x' if extra else ''}\n".encode()


@pytest.mark.parametrize(
    "names",
    [
        {},
        {name: name.lower() for name in WANTED_COLUMNS},
        {name: name.title() for name in WANTED_COLUMNS},
        {"TEXT": "caption", "SAMPLE_ID": "key", "URL": "url"},
        {"TEXT": "Alt_Text", "LICENSE": "License", "NSFW": "Nsfw", "similarity": "SIMILARITY"},
    ],
)
def test_columns_are_found_by_all_names_of_parquet_files(names: dict[str, str]) -> None:
    (plain,) = Read(one_row({})).rows
    read = Read(one_row(names))
    assert read.rows == [plain]
    assert plain["SAMPLE_ID"] == 7


@pytest.mark.parametrize("extra", ["|url", "|caption", "|text", "|Text"])
def test_exact_name_is_preferred(extra: str) -> None:
    assert Read(one_row({}, extra)).rows == Read(one_row({})).rows


@pytest.mark.parametrize(
    ("names", "extra"), [({}, "|URL"), ({"URL": "url"}, "|Url"), ({"TEXT": "caption"}, "|CAPTION"), ({}, "|similarity")]
)
def test_file_with_an_ambiguous_header_is_left_out(names: dict[str, str], extra: str) -> None:
    if names == {"TEXT": "caption"}:
        assert Read(one_row(names, extra)).captions == ["seven"], "caption is spelled as the alias is"
        return
    read = Read(one_row(names, extra))
    assert read.reasons == ["file_with_repeated_column"]


@pytest.mark.parametrize("name", ["LANGUAGE", "punsafe", "url hash", "ÜBER", "a.b", "URL", "width"])
def test_any_column_may_be_required_and_files_without_it_are_left_out_and_counted(name: str) -> None:
    settings = DedupSettings(required_columns=(name,))
    header = "|".join(["URL", "TEXT", "WIDTH"])
    content = f"{header}|{name.swapcase()}\nhttp://a.test/1|a|5|x\nhttp://a.test/2|b|5|x\n".encode()
    assert len(Read(content, settings).rows) == 2 or name in ("URL", "width")
    without = Read(b"TEXT|other\na|b\nc|d\n", settings)
    assert not without.rows
    assert without.reasons == [f"file_without_{name.lower()}"] * 2
    assert without.state == f"file_without_{name.lower()}"


def test_alias_satisfies_a_required_column() -> None:
    settings = DedupSettings(required_columns=("URL", "TEXT"))
    assert Read(b"url|caption\nhttp://a.test/1|a\n", settings).captions == ["a"]


def test_log_names_headers_of_left_out_files_and_the_settings() -> None:
    read = Read(b"url,caption\nhttp://a.test/ok,one\n")
    assert read.state == "file_without_url"
    assert read.header == b"url,caption"
    assert Read(one_row({})).header == b""
    long = Read(b"x" * 5_000 + b"\n1\n")
    assert len(long.header) == 300

    class Said:
        details = {"left_out": {"file_without_url, header 'url,caption'": 3}}

    first, second = summarise_left_out([Said(), Said()])  # type: ignore[list-item]
    assert first == "6 files left out, file_without_url, header 'url,caption'"
    assert "dedup.separator" in second
    assert "dedup.required_columns" in second


def test_find_name() -> None:
    assert find_columns(["caption", "ALT_TEXT", "url"]).places == {"URL": 2, "TEXT": 0}
    assert find_columns(["key", "url"], without=frozenset({"key"})).places == {"URL": 1}
    assert find_columns(["Url", "uRL"]).repeated == ("URL",)
