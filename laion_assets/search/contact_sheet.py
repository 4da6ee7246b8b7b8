"""A contact sheet: images in a grid with their captions, as one PNG."""

import bisect
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from laion_assets.plain_text import one_line

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

TILE = 192
"""Side of a tile, in px."""
GAP = 16
COLUMNS = 5
CAPTION_LINES = 4
_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "Arial Unicode.ttf",
    "LiberationSans-Regular.ttf",
)
"""Fonts to look for in the machine's font folders, in this order."""
_TITLE_SIZE, _TEXT_SIZE, _LINE = 22, 13, 17
_PAPER, _INK, _FAINT, _GREY = (250, 250, 248), (30, 30, 34), (110, 110, 118), (214, 214, 212)


def contact_sheet(
    title: str, tiles: Sequence[tuple[bytes, Sequence[str]]], columns: int = COLUMNS, kind: str = "PNG"
) -> bytes:
    """Draw a PNG (or a smaller JPEG: `kind`) of images, each (encoded image, lines of text), under a title.

    The first line of a tile is dark (a similarity, a rank); the other lines are grey, wrapped, and truncated to four
    lines. An image that does not decode is a grey tile. Text is never interpreted as markup.
    """
    return _encode(_draw_section(title, tiles, max(1, min(columns, len(tiles) or 1))), kind)


def stacked_contact_sheet(
    sections: Sequence[tuple[str, Sequence[tuple[bytes, Sequence[str]]]]], columns: int = COLUMNS
) -> bytes:
    """Draw a PNG of several contact sheets of the same width, one below the other: (title, tiles) of each."""
    from PIL import Image

    drawn = [_draw_section(title, tiles, columns) for title, tiles in sections]
    sheet = Image.new("RGB", (max(each.width for each in drawn), sum(each.height for each in drawn)), _PAPER)
    top = 0
    for each in drawn:
        sheet.paste(each, (0, top))
        top += each.height
    return _encode(sheet, "PNG")


def _encode(sheet: "Image.Image", kind: str) -> bytes:
    buffer = io.BytesIO()
    sheet.save(buffer, kind, optimize=True)
    return buffer.getvalue()


def _draw_section(title: str, tiles: Sequence[tuple[bytes, Sequence[str]]], columns: int) -> "Image.Image":
    from PIL import Image, ImageDraw

    rows = -(-len(tiles) // columns)
    head = GAP + _TITLE_SIZE + GAP
    tile_height = TILE + 6 + (1 + CAPTION_LINES) * _LINE + GAP
    width = max(GAP + columns * (TILE + GAP), 2 * (TILE + GAP) + GAP)
    sheet = Image.new("RGB", (width, head + rows * tile_height + GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    large, small = _load_font(_TITLE_SIZE), _load_font(_TEXT_SIZE)
    draw.text((GAP, GAP), _truncate(draw, _to_one_line(title), large, width - 2 * GAP), font=large, fill=_INK)
    for number, (content, lines) in enumerate(tiles):
        left = GAP + number % columns * (TILE + GAP)
        top = head + number // columns * tile_height
        _draw_image(sheet, draw, content, left, top)
        _draw_lines(draw, lines, small, left, top + TILE + 6)
    return sheet


def _load_font(size: int) -> "Font":
    """Load the installed font with the widest script coverage, else Pillow's own, which has little beyond ASCII."""
    from PIL import ImageFont

    for name in _FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def _draw_image(sheet: "Image.Image", draw: "ImageDraw.ImageDraw", content: bytes, left: int, top: int) -> None:
    from laion_assets.models.images import decode_image

    image = decode_image(content)
    if image is None:
        draw.rectangle((left, top, left + TILE - 1, top + TILE - 1), fill=_GREY)
        draw.line((left + 70, top + 70, left + TILE - 70, top + TILE - 70), fill=_FAINT, width=2)
        draw.line((left + TILE - 70, top + 70, left + 70, top + TILE - 70), fill=_FAINT, width=2)
        return
    scale = TILE / max(image.size)
    image = image.resize([max(1, round(side * scale)) for side in image.size])
    draw.rectangle((left, top, left + TILE - 1, top + TILE - 1), fill=(238, 238, 236))
    sheet.paste(image, (left + (TILE - image.width) // 2, top + (TILE - image.height) // 2))


def _draw_lines(draw: "ImageDraw.ImageDraw", lines: Sequence[str], font: "Font", left: int, top: int) -> None:
    shown: list[tuple[str, tuple[int, int, int]]] = []
    for position, line in enumerate(lines):
        colour = _INK if position == 0 else _FAINT
        shown += [(part, colour) for part in _wrap(draw, _to_one_line(line), font, TILE)]
    if len(shown) > 1 + CAPTION_LINES:
        shown = shown[: 1 + CAPTION_LINES]
        shown[-1] = (_truncate(draw, f"{shown[-1][0]} …", font, TILE), shown[-1][1])
    for number, (part, colour) in enumerate(shown):
        draw.text((left, top + number * _LINE), part, font=font, fill=colour)


def _to_one_line(text: str) -> str:
    """Convert to one line of visible characters, of at most the length that can be shown."""
    return one_line(" ".join(text[:600].split()))


def _wrap(draw: "ImageDraw.ImageDraw", text: str, font: "Font", width: int) -> list[str]:
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}".strip()
        if draw.textlength(longer, font=font) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        while draw.textlength(word, font=font) > width:
            fits = _count_fitting(draw, word, font, width)
            lines.append(word[:fits])
            word = word[fits:]
        line = word
    return [*lines, line] if line else lines


def _truncate(draw: "ImageDraw.ImageDraw", text: str, font: "Font", width: int) -> str:
    """Return the text, or the part of its beginning that fits with an ellipsis."""
    if draw.textlength(text, font=font) <= width:
        return text
    fits = _count_fitting(draw, text, font, width - draw.textlength("…", font=font))
    return f"{text[:fits]}…"


def _count_fitting(draw: "ImageDraw.ImageDraw", text: str, font: "Font", width: float) -> int:
    """How many characters from the beginning fit, at least 1."""
    return max(
        1, bisect.bisect_right(range(1, len(text) + 1), width, key=lambda n: draw.textlength(text[:n], font=font))
    )
