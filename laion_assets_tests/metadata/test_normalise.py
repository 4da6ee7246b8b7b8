"""Odd values: null with a note, normalised, or quarantined with a reason."""

import pytest

from laion_assets.metadata.reasons import Note
from laion_assets_tests.metadata.tables import Read, row, table


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
def test_a_url_that_cannot_be_one_quarantines_its_row(url: str, reason: str) -> None:
    read = Read(table([row(), row(URL=url), row()]))
    assert read.reasons == [reason]
    assert len(read.rows) == 2


def test_empty_captions_are_null_and_labels_are_trimmed() -> None:
    (found,) = Read(table([row(TEXT="", NSFW=" UNSURE ", LICENSE="")])).rows
    assert (found["TEXT"], found["NSFW"], found["LICENSE"]) == (None, "UNSURE", None)
    assert found["notes"] == Note.CAPTION_MISSING
