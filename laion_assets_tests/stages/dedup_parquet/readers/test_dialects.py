"""CSV dialects: Zstandard, quote characters, encodings, files without a header. No row is lost in any of them."""

import csv
import io
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laion_assets.dataset.built_in import BUILT_IN, SAMPLE
from laion_assets.errors import SettingError
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET
from laion_assets.stages.dedup_parquet.readers.csv_bytes import BrokenStreamError, read_blocks
from laion_assets.stages.dedup_parquet.settings import ENCODINGS, DedupSettings
from laion_assets.stages.status import settings_digest
from laion_assets.tables.row_reasons import Reason
from laion_assets.tables.table_limits import TableLimits
from laion_assets_tests.stages.dedup_parquet.tables import HEADER, Read, row, table

ROWS = [row(URL=f"http://a.test/{number * 7919 % 100_003}.jpg", TEXT=f"caption {number}") for number in range(3_000)]
COMMAS = DedupSettings(separator=",", required_columns=("URL", "TEXT"))


def zstd(content: bytes) -> bytes:
    return pa.compress(content, codec="zstd", asbytes=True)


def test_zstandard_is_read_like_plain_text() -> None:
    content = table(ROWS)
    assert zstd(content)[:4] == b"\x28\xb5\x2f\xfd"
    assert Read(zstd(content)).captions == Read(content).captions


def test_several_frames_and_skippable_frames_are_read() -> None:
    head, rest = table(ROWS)[:5_000], table(ROWS)[5_000:]
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    read = Read(skippable + zstd(head) + zstd(rest))
    assert (len(read.rows), read.reasons) == (len(ROWS), [])


def test_a_damaged_stream_keeps_its_rows_before_the_damage_and_counts_the_rest() -> None:
    packed = zstd(table(ROWS * 20))
    cut = Read(packed[: len(packed) * 2 // 3])
    assert cut.reasons == ["truncated_zstd"]
    assert cut.state == "truncated_zstd"
    changed = bytearray(packed)
    changed[len(packed) // 2 : len(packed) // 2 + 40] = b"\xff" * 40
    assert Read(bytes(changed)).state == "corrupt_zstd"


def test_a_bomb_ends_at_the_limit() -> None:
    bomb = zstd(HEADER + b"1|http://a.test/1|a|1|1|?|UNLIKELY|0.3\n" * 4_000_000)
    sizes: list[int] = []
    with pytest.raises(BrokenStreamError, match="expansion_limit"):
        sizes.extend(len(block) for block in read_blocks(io.BytesIO(bomb), TableLimits(max_expansion=2)))
    assert 60 << 20 < sum(sizes) < 70 << 20


@pytest.mark.parametrize("quote", ["'", ""])
def test_other_quotes_are_ordinary_text(quote: str) -> None:
    settings = replace(COMMAS, quote=quote)
    content = b'URL,TEXT\nhttp://a.test/1,"open\nhttp://a.test/2,a "b" c\nhttp://a.test/3,""\n'
    assert Read(content, settings).captions == ['"open', 'a "b" c', '""']
    quoted = b"URL,TEXT\nhttp://a.test/1,'it''s, quoted\nin two lines'\n"
    read = Read(quoted, settings)
    if quote:
        assert read.captions == ["it's, quoted\nin two lines"]
    else:
        assert read.reasons == ["wrong_token_count"] * 2


@given(st.lists(st.text(alphabet="ab'\"|,\n", max_size=8), min_size=1, max_size=8))
def test_what_pythons_csv_writes_with_another_quote_is_read_back(captions: list[str]) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=",", quotechar="'", lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([["URL", "TEXT"], *(["http://a.test/1", caption] for caption in captions)])
    read = Read(buffer.getvalue().encode(), replace(COMMAS, quote="'"))
    assert read.captions == [caption or None for caption in captions]


@pytest.mark.parametrize(
    ("encoding", "caption"),
    [
        ("utf-16", "日本語"),
        ("utf-16-le", "日本語"),
        ("utf-16-be", "emoji 🎈"),
        ("windows-1252", "Caf\u00e9 – ‘x’"),
        ("iso-8859-1", "Caf\u00e9"),
        ("windows-1251", "Кот"),
        ("shift_jis", "表示|ソ"),
        ("gb18030", "猫,🎈"),
        ("euc-kr", "고양이"),
    ],
)
def test_other_encodings_are_read(encoding: str, caption: str) -> None:
    assert encoding in ENCODINGS
    rows = [row(TEXT=caption), *ROWS[:50]]
    read = Read(table(rows).decode().encode(encoding), DedupSettings(encoding=encoding))
    assert read.captions[0] == caption
    assert (len(read.rows), read.reasons) == (51, [])


def test_bytes_that_the_encoding_does_not_have_reject_their_row_alone() -> None:
    good = table(ROWS[:3]).decode().encode("windows-1252")
    bad = b"9|http://a.test/9|\x81|1|1|?|UNLIKELY|0.3\n"
    read = Read(good + bad + good.partition(b"\n")[2], DedupSettings(encoding="windows-1252"))
    assert (len(read.rows), read.reasons) == (6, ["invalid_utf8"])
    content = table(ROWS[:3]).decode().encode("utf-16-le") + b"\x00\xd8" + "|x\n".encode("utf-16-le") + b"\x01"
    read = Read(content, DedupSettings(encoding="utf-16-le"))
    assert len(read.rows) == 3
    assert read.reasons[0] in ("wrong_token_count", "invalid_utf8")


def test_files_without_a_header_get_their_names_from_the_settings() -> None:
    content = b"http://a.test/1,one\nhttp://a.test/2,two\nhttp://a.test/3\n"
    read = Read(content, replace(COMMAS, column_names=("url", "caption")))
    assert (read.captions, read.reasons) == (["one", "two"], ["wrong_token_count"])
    assert read.rows[0]["source_row"] == 1


def test_captions_are_optional_if_they_are_not_required() -> None:
    read = Read(b"url\nhttp://a.test/1\nhttp://a.test/2\n", replace(COMMAS, required_columns=("URL",)))
    assert read.captions == [None, None]


def test_new_settings_change_no_digest_of_the_built_in_datasets_and_all_others() -> None:
    for dataset in BUILT_IN.values():
        assert dataset.dedup.quote == '"'
    before = settings_digest(SAMPLE, DEDUP_PARQUET)
    changes = [
        {"quote": ""},
        {"encoding": "utf-16"},
        {"format": "csv"},
        {"column_names": ("a",)},
        {"keep_columns": ("a",)},
    ]
    digests = {settings_digest(replace(SAMPLE, dedup=replace(SAMPLE.dedup, **each)), DEDUP_PARQUET) for each in changes}
    assert len(digests | {before}) == 6


def test_a_quote_that_is_the_separator_is_refused() -> None:
    with pytest.raises(SettingError, match=r"dedup.quote and dedup.separator are both ';'"):
        DedupSettings(separator=";", quote=";")
    assert Reason.TRUNCATED_ZSTD == "truncated_zstd"
