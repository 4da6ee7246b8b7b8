"""The filter `area` as two products with sparse matrices: half the time of OpenCV's, the same pixels.

Each output pixel is the mean of what it covers of the picture, parts of pixels included: `cv2.INTER_AREA`'s definition.
It is separable, so that a picture is multiplied from the left by one matrix for its rows and by one for its columns.
Sums are taken in another order than OpenCV's, which moves about one pixel in 100,000 by one level.

The picture may show a fraction of its last row or column only: libjpeg's half of 1,067 rows is 534 rows, of which the
last is a half. No repeated rows and no shift are needed for it.
"""

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from scipy import sparse

_CACHED_MATRICES = 2_048
"""Matrices kept, some 10 KB each: a crawl's sides repeat (640, 480, 1,024 ...), and one costs a fifth of its use."""

_AT_ONCE_BYTES = 32 << 20
"""A larger image as float32 is multiplied in bands: the system finds new memory for it each time (decoder_child.py)."""
_BAND_BYTES = 8 << 20
"""Of the float32 rows of a band."""

_SHARPNESS = 1 / 32
_LEAST = 1e-9
"""Shorter pieces of a pixel are the rounding of two borders that are one."""


@lru_cache(maxsize=_CACHED_MATRICES)
def area_matrix(pixels: int, extent: float, made: int, sharpened: bool = False) -> Any:
    """(made, pixels) float32, CSR: the mean of each of `made` equal parts of `extent` pixels; pixels is ceil(extent).

    Every row sums to 1. `extent` is at least `made`. `sharpened` gives back what libjpeg's means of 2 x 2 pixels took
    from the frequencies that remain: [-1/32, 34/32, -1/32] before the filter, half to one decibel.
    """
    step = extent / made
    borders = np.concatenate([np.arange(1, made) * step, np.arange(1, pixels), [0.0, extent]])
    borders.sort()
    # Between two borders lies a piece of one input pixel that belongs to one output pixel.
    lengths = np.diff(borders)
    middles = (borders[:-1] + lengths / 2)[lengths > _LEAST]
    rows, columns = (middles / step).astype(np.int32), middles.astype(np.int32)
    ends = np.searchsorted(rows, np.arange(made + 1)).astype(np.int32)
    weights = (lengths[lengths > _LEAST] / step).astype(np.float32)
    matrix = sparse.csr_array((weights, columns, ends), shape=(made, pixels))
    return matrix @ _sharpening(pixels) if sharpened else matrix


def _sharpening(pixels: int) -> Any:
    middle = np.full(pixels, 1 + 2 * _SHARPNESS, np.float32)
    middle[[0, -1]] = 1 + _SHARPNESS
    beside = np.full(pixels - 1, -_SHARPNESS, np.float32)
    return sparse.diags_array([beside, middle, beside], offsets=[-1, 0, 1], format="csr")


def _product(matrix: Any, image: np.ndarray) -> np.ndarray:
    """(made, columns) float32: the product with a (rows, columns) uint8 image, some rows at a time.

    A large image as float32 fits no cache: 20 million pixels take 13 ms in bands, and take 33 ms at once, or 470 ms
    where the system first has to find the memory. Each sum has the same order.
    """
    if 4 * image.size <= _AT_ONCE_BYTES:
        return np.asarray(matrix @ image.astype(np.float32))
    made = matrix.shape[0]
    band = max(1, _BAND_BYTES * made // (4 * image.size))
    product = np.empty((made, image.shape[1]), np.float32)
    for top in range(0, made, band):
        part = matrix[top : top + band]
        first, last = part.indices.min(), part.indices.max()
        columns = part.indices - first
        part = sparse.csr_array((part.data, columns, part.indptr), shape=(part.shape[0], last - first + 1))
        product[top : top + band] = part @ image[first : last + 1].astype(np.float32)
    return product


def resize_area(image: np.ndarray, width: int, height: int, extent: tuple[float, float] | None = None) -> np.ndarray:
    """The (H, W) or (H, W, C) uint8 picture in `width` x `height`, no larger than it is, by the filter `area`.

    `extent` is given for a scaled decode: the (width, height) in its pixels, whose last may be a part of one.
    """
    have_height, have_width = image.shape[:2]
    wide, high = extent or (have_width, have_height)
    if extent is None and have_width % width == 0 and have_height % height == 0:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)  # its fast case, with its own rounding
    scaled = extent is not None
    rows = _product(area_matrix(have_height, high, height, scaled), image.reshape(have_height, -1))
    # As tables of single numbers: OpenCV turns those in an eighth of the time that pixels of three take.
    turned = cv2.transpose(rows).reshape(have_width, -1)
    both = cv2.convertScaleAbs(area_matrix(have_width, wide, width, scaled) @ turned)
    return cv2.transpose(both.reshape(-1, height)).reshape(height, width, *image.shape[2:])
