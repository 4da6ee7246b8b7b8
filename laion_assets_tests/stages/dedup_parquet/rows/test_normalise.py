"""Invalid values: set to null with a note, normalised, or quarantined with a reason."""

import math

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_assets.stages.dedup_parquet.rows.normalise import (
    find_url_fault,
    normalise,
    normalise_caption,
    parse_similarity,
    parse_whole_number,
)
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.tables.row_reasons import Note, Reason
from laion_assets_tests.stages.dedup_parquet.tables import Read, row, table


@pytest.mark.parametrize(
    ("text", "value", "note"),
    [
        ("0.31", 0.31, 0),
        ("1", 1.0, 0),
        ("-1.0", -1.0, 0),
        (" 3.1e-1 ", 0.31, 0),
        ("-0.0", 0.0, 0),
        ("", None, Note.SIMILARITY_MISSING),
        ("nan", None, Note.SIMILARITY_NOT_FINITE),
        ("-Infinity", None, Note.SIMILARITY_NOT_FINITE),
        ("1e999", None, Note.SIMILARITY_NOT_FINITE),
        ("6016.0", None, Note.SIMILARITY_OUT_OF_RANGE),
        ("UNLIKELY", None, Note.SIMILARITY_INVALID),
        ("0_3", None, Note.SIMILARITY_INVALID),
        ("0x1", None, Note.SIMILARITY_INVALID),
    ],
)
def test_similarity_is_in_minus_1_to_1_or_null_with_a_note(text: str, value: float | None, note: int) -> None:
    (found,) = Read(table([row(similarity=text)])).rows
    assert (found["similarity"], found["notes"]) == (value, note)
    assert str(found["similarity"]) != "-0.0"


@pytest.mark.parametrize(
    ("text", "value", "note"),
    [
        ("200", 200, 0),
        ("200.0", 200, 0),
        (" 200 ", 200, 0),
        ("1000000", 1_000_000, 0),
        ("", None, Note.WIDTH_MISSING),
        ("-1", None, Note.WIDTH_INVALID),
        ("0", None, Note.WIDTH_INVALID),
        ("1000001", None, Note.WIDTH_INVALID),
        ("1000000000", None, Note.WIDTH_INVALID),
        ("1e9", None, Note.WIDTH_INVALID),
        ("200.5", None, Note.WIDTH_INVALID),
        ("wide", None, Note.WIDTH_INVALID),
    ],
)
def test_a_width_is_plausible_or_null_with_a_note(text: str, value: int | None, note: int) -> None:
    (found,) = Read(table([row(WIDTH=text)])).rows
    assert (found["WIDTH"], found["notes"]) == (value, note)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9223372036854775807", 2**63 - 1),
        ("-5", -5),
        ("7.0", 7),
        ("9223372036854775808", None),
        ("n/a", None),
        ("12.5", None),
    ],
)
def test_a_sample_id_is_a_bigint_or_null(text: str, value: int | None) -> None:
    (found,) = Read(table([row(SAMPLE_ID=text)])).rows
    assert found["SAMPLE_ID"] == value
    assert found["notes"] == (0 if value is not None else Note.SAMPLE_ID_INVALID)


@pytest.mark.parametrize(
    ("url", "stored"),
    [
        ("  http://a.test/x \n", "http://a.test/x"),
        ("http://a.test/my picture.jpg", "http://a.test/my%20picture.jpg"),
        ("HTTP://user:secret@a.test:81?q", "HTTP://user:secret@a.test:81?q"),
        ("https://[2001:db8::1]/x", "https://[2001:db8::1]/x"),
        ("http://例え.test/写真.jpg", "http://例え.test/写真.jpg"),
        ("ftp://a.test/x.jpg", "ftp://a.test/x.jpg"),
        ("file:///etc/passwd", "file:///etc/passwd"),
        ("data:image/png;base64,AAAA", "data:image/png;base64,AAAA"),
    ],
)
def test_urls_are_normalised_and_other_schemes_stay_for_the_image_stage(url: str, stored: str) -> None:
    (found,) = Read(table([row(URL=url)])).rows
    assert found["URL"] == stored
    assert bool(found["notes"] & Note.URL_SPACES) == (url != stored)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "url_missing"),
        ("   ", "url_missing"),
        ("www.a.test/x.jpg", "url_without_scheme"),
        ("//a.test/x.jpg", "url_without_scheme"),
        ("http:", "url_without_scheme"),
        ("http:///x.jpg", "url_without_host"),
        ("http://:80/x.jpg", "url_without_host"),
        ("http://user@/x.jpg", "url_without_host"),
        ("http:\\\\a.test\\x", "url_without_host"),
        ("https:a.test", "url_without_host"),
        ("http://a.test/x\x01y", "url_control_character"),
        ("http://a.test/\ny", "url_control_character"),
        ("http://a.test/\x85y", "url_control_character"),
        ("http://a.test/" + "x" * 10_000, "url_too_long"),
    ],
)
def test_invalid_url_quarantines_its_row(url: str, reason: str) -> None:
    read = Read(table([row(), row(URL=url), row()]))
    assert read.reasons == [reason]
    assert len(read.rows) == 2


def test_empty_captions_are_null_and_labels_are_trimmed() -> None:
    (found,) = Read(table([row(TEXT="", NSFW=" UNSURE ", LICENSE="")])).rows
    assert (found["TEXT"], found["NSFW"], found["LICENSE"]) == (None, "UNSURE", None)
    assert found["notes"] == Note.CAPTION_MISSING


SHORT = DedupSettings(max_url_chars=24, max_caption_chars=6)
NUMBERS = st.lists(st.text("0123456789.-+ e", max_size=22), max_size=12)


def typed(**columns: list[str]):
    """Normalise the given columns."""
    (rows,) = {len(texts) for texts in columns.values()}
    return normalise({name: pa.array(texts, pa.string()) for name, texts in columns.items()}, rows, SHORT)


@given(NUMBERS)
@settings(max_examples=300, deadline=None)
def test_number_columns_agree_with_the_scalar_rule(texts: list[str]) -> None:
    texts = [*texts, "0", "007", "1000000", "1000001", "0.5", "0..5", "0.", "9" * 18, "9" * 19, "0.3318949043750763"]
    found = typed(SAMPLE_ID=texts, WIDTH=texts, similarity=texts)
    expected = [parse_whole_number(text, -(1 << 63), (1 << 63) - 1) for text in texts]
    assert found.columns["SAMPLE_ID"].to_pylist() == expected
    assert found.columns["WIDTH"].to_pylist() == [parse_whole_number(text, 1, 1_000_000) for text in texts]
    assert found.columns["similarity"].to_pylist() == [parse_similarity(text)[0] for text in texts]
    assert not any(math.copysign(1, value) < 0 for value in found.columns["similarity"].to_pylist() if value == 0)
    for text, notes, value in zip(texts, found.notes.tolist(), expected, strict=True):
        assert bool(notes & (Note.SAMPLE_ID_INVALID | Note.SAMPLE_ID_MISSING)) == (value is None)
        assert bool(notes & parse_similarity(text)[1]) == bool(parse_similarity(text)[1])


@given(
    st.lists(st.text("a/:@.[]\\?# \x00\x7f\x85é写", max_size=20), max_size=12),
    st.sampled_from(["http://", "HTTPS://", ""]),
)
@settings(max_examples=300, deadline=None)
def test_url_columns_agree_with_the_scalar_rule(ends: list[str], scheme: str) -> None:
    urls = [scheme + end for end in ends]
    found = typed(URL=urls)
    stored = [url.strip(" \t\n\r\f\v").replace(" ", "%20") for url in urls]
    faults = {row: fault for row, url in enumerate(stored) if (fault := find_url_fault(url, SHORT.max_url_chars))}
    assert found.reasons == faults
    assert found.columns["URL"].to_pylist() == stored


@given(st.lists(st.text("ab\n\t\x00\x1f\x7f\x85\u202e\u2066\u200eé写", max_size=9), max_size=12))
@settings(max_examples=300, deadline=None)
def test_caption_columns_agree_with_the_scalar_rule(captions: list[str]) -> None:
    found = typed(URL=["http://a/"] * len(captions), TEXT=captions)
    expected = [normalise_caption(caption)[0] for caption in captions]
    assert found.columns["TEXT"].to_pylist() == [text or None for text in expected]
    assert found.reasons == {
        row: Reason.CAPTION_TOO_LONG for row, text in enumerate(expected) if len(text) > SHORT.max_caption_chars
    }
    for caption, notes in zip(captions, found.notes.tolist(), strict=True):
        assert notes & normalise_caption(caption)[1] == normalise_caption(caption)[1]


def test_labels_are_trimmed_and_invalid_ones_noted() -> None:
    labels = ["?", " ? ", "", "a\x01b", "x" * 1_001, "?"]
    found = typed(URL=["http://a/"] * 6, LICENSE=labels, NSFW=labels[::-1])
    assert found.columns["LICENSE"].to_pylist() == ["?", "?", None, None, None, "?"]
    assert [bool(notes & Note.LICENSE_INVALID) for notes in found.notes.tolist()] == [False] * 3 + [True] * 2 + [False]
    assert [bool(notes & Note.NSFW_INVALID) for notes in found.notes.tolist()] == [False] + [True] * 2 + [False] * 3
