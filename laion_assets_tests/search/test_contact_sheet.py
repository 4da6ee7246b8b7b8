"""A contact sheet is a valid PNG for any images and captions."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from laion_assets.search.contact_sheet import GAP, TILE, contact_sheet
from laion_assets_tests.hostile_text import HOSTILE, INVISIBLE
from laion_assets_tests.stages.clip_embeddings.small_dataset import make_jpeg


def drawn(png: bytes) -> Image.Image:
    assert png.startswith(b"\x89PNG")
    return Image.open(io.BytesIO(png)).convert("RGB")


def tile(sheet: Image.Image, column: int) -> np.ndarray:
    left, top = GAP + column * (TILE + GAP), GAP + 22 + GAP
    return np.asarray(sheet.crop((left, top, left + TILE, top + TILE)))


def test_each_image_has_a_tile() -> None:
    sheet = drawn(contact_sheet("a query", [(make_jpeg(n), ["0.812", f"caption {n}"]) for n in range(7)]))
    assert sheet.width == GAP + 5 * (TILE + GAP)
    for n in range(5):
        expected = Image.open(io.BytesIO(make_jpeg(n))).convert("RGB").resize((TILE, 160))
        inside = tile(sheet, n)[16 : 16 + 160]
        assert np.abs(inside.astype(int) - np.asarray(expected)).mean() < 3
    assert contact_sheet("a query", []).startswith(b"\x89PNG")


def test_undecodable_image_is_a_grey_tile() -> None:
    sheet = drawn(contact_sheet("q", [(make_jpeg(1), ["a"]), (b"broken", ["b"]), (make_jpeg(1)[:600], ["c"])]))
    for column in (1, 2):
        assert np.median(tile(sheet, column).reshape(-1, 3), axis=0).tolist() == [214, 214, 212]


@pytest.mark.parametrize(
    "caption",
    ["", "x" * 5_000, "word " * 900, "a\nb\0c\u202e", "星の夜 Straße 🐶 کتاب", "<script>alert(1)</script>", "\ud800"],
)
def test_any_caption_can_be_drawn(caption: str) -> None:
    one = drawn(contact_sheet(caption, [(make_jpeg(1), [caption, caption])]))
    assert one.height == drawn(contact_sheet("q", [(make_jpeg(1), ["short"])])).height


def test_the_same_input_produces_the_same_bytes() -> None:
    tiles = [(make_jpeg(n), ["0.5", "caption"]) for n in range(3)]
    assert contact_sheet("q", tiles) == contact_sheet("q", tiles)


@pytest.mark.parametrize("text", HOSTILE)
def test_drawn_captions_have_no_invisible_characters(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    draw = ImageDraw.ImageDraw.text

    def noted(self: ImageDraw.ImageDraw, place: tuple[int, int], text: str, **style: object) -> None:
        lines.append(text)
        draw(self, place, text, **style)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", noted)
    contact_sheet(text, [(b"", [text, text])])
    assert lines
    assert not [line for line in lines if INVISIBLE.search(line)]
