"""Which JPEGs are decoded at half size or less, and the grid that keeps the picture's geometry then.

libjpeg can leave out the high frequencies of each block and give a picture of 1/2, 1/4 or 1/8 of the size for less
work (its `scale_denom`); the resize that follows reads 4 to 64 times fewer pixels. What the filter `area` makes of it
differs little where enough pixels remain; other filters read single pixels of the full picture and would give another.
"""

import math
from dataclasses import dataclass

from laion_assets.images.image_header import ImageHeader

MARGINS = ((8, 8.0), (4, 4.0), (2, 2.0))
"""(denominator, how many times the target size has to remain): the least that keep 45 dB in the median before the JPEG
encoder, by bench/scaled_decoding.py. A quarter of which twice the target remains stays under it."""
MAX_MISFIT = 0.1
"""Pixels of the scaled picture that the far edge of the grid may lie beside the picture's."""
_MAX_EXTRA = 32
"""Output rows or columns made beyond the picture and cut off, at most."""


@dataclass(frozen=True)
class Grid:
    """How to resize one axis of a scaled picture: `source` pixels (those beyond the picture repeat its last) become
    `made` pixels, of which the first `kept` are the output."""

    source: int
    made: int
    kept: int


@dataclass(frozen=True)
class Reduction:
    """A scaled decode: the denominator, and the grids of columns and rows."""

    denominator: int
    columns: Grid
    rows: Grid


def reduction(header: ImageHeader, width: int, height: int) -> Reduction | None:
    """How to decode a picture that will be `width` x `height` in its stored orientation; None: as a whole."""
    if not _halves_evenly(header) or min(width, height) < 1:
        return None
    remaining = min(header.width / width, header.height / height)
    for denominator, margin in MARGINS:
        if remaining >= denominator * margin:
            columns = grid(header.width, denominator, width)
            rows = grid(header.height, denominator, height)
            if columns is not None and rows is not None:
                return Reduction(denominator, columns, rows)
    return None


def grid(size: int, denominator: int, kept: int) -> Grid | None:
    """The grid of one axis, None where none fits.

    libjpeg rounds up: 1,067 rows become 534, which show 1,068. Resizing 534 rows to 171 would shift the last by 0.16 of
    a row, so a few more rows are made of a few repeated ones, such that each output row covers what it has to.
    """
    step = size / denominator / kept
    have = math.ceil(size / denominator)
    fits = ((abs((kept + extra) * step - round((kept + extra) * step)), extra) for extra in range(_MAX_EXTRA + 1))
    good = (extra for misfit, extra in fits if misfit <= MAX_MISFIT and round((kept + extra) * step) >= have)
    extra = next(good, None)
    return None if extra is None else Grid(round((kept + extra) * step), kept + extra, kept)


def _halves_evenly(header: ImageHeader) -> bool:
    """Grey, 4:4:4 and 4:2:0. Others (4:2:2) have chroma that libjpeg would enlarge after it has scaled it down."""
    sampling = header.sampling
    if len(sampling) == 1:
        return True
    return len(sampling) == 3 and sampling[1] == sampling[2] and sampling[0] in (
        sampling[1], (2 * sampling[1][0], 2 * sampling[1][1])
    )  # fmt: skip
