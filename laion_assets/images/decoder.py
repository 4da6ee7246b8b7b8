"""From a file's bytes to 8-bit pixels, in the orientation in which they are stored. Worker-side: imports OpenCV."""

import io
from collections.abc import Callable

import cv2
import numpy as np

from laion_assets.images.reasons import Reason, Rejection

_FLAGS = {
    1: cv2.IMREAD_UNCHANGED,
    2: cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_IGNORE_ORIENTATION,
    4: cv2.IMREAD_REDUCED_COLOR_4 | cv2.IMREAD_IGNORE_ORIENTATION,
    8: cv2.IMREAD_REDUCED_COLOR_8 | cv2.IMREAD_IGNORE_ORIENTATION,
}
"""By the denominator of a JPEG's scale."""
_BAND_ROWS = 64
"""Rows blended at once: in float64 a whole picture of 100 million pixels would take 2.4 GB."""


def decode(
    data: bytes, format: str, denominator: int, check_size: Callable[[int, int], None]
) -> tuple[np.ndarray, bool]:
    """The picture, (H, W) uint8 grey or (H, W, 3) uint8 BGR, on white where it was transparent; a JPEG at one
    `denominator`-th of its size. And whether the format's pixels have no transparency. `check_size` gets the width and
    height of a GIF's frame before it is decoded.

    Raises Rejection.
    """
    image = _decode_gif(data, check_size) if format == "GIF" else _decode_cv2(data, denominator)
    if image.dtype == np.uint16:
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    if image.dtype != np.uint8:
        raise Rejection(Reason.UNDECODABLE, f"samples of type {image.dtype}")
    opaque = image.ndim == 2 or image.shape[2] == 3
    return image if opaque else _on_white(image), opaque


def _decode_cv2(data: bytes, denominator: int) -> np.ndarray:
    """What OpenCV makes of a JPEG, PNG, WebP or BMP. A file that is cut short is refused, by its decoders' own rule;
    a damaged JPEG whose scans are all there decodes as every browser shows it."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS[denominator])
    except cv2.error as error:
        raise Rejection(Reason.UNDECODABLE, "the decoder refused it") from error
    if image is None:
        raise Rejection(Reason.UNDECODABLE, "the decoder refused it")
    return image


def _decode_gif(data: bytes, check_size: Callable[[int, int], None]) -> np.ndarray:
    """The first frame; this OpenCV has no GIF decoder."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=["GIF"]) as gif:
            check_size(*gif.size)  # a frame may be larger than the screen that the header declares
            frame = np.asarray(gif.convert("RGBA"))
    except Rejection:
        raise
    except Exception as error:
        raise Rejection(Reason.UNDECODABLE, "the GIF decoder refused it") from error
    return cv2.cvtColor(frame, cv2.COLOR_RGBA2BGRA)


def _on_white(image: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 over a white background, with img2dataset's roundings, a band of rows at a time."""
    flat = np.ascontiguousarray(image[..., :3])
    for top in range(0, len(image), _BAND_ROWS):
        alpha = image[top : top + _BAND_ROWS, :, 3, np.newaxis]
        if alpha.min() < 255:
            blended = alpha / 255 * flat[top : top + _BAND_ROWS] + 255 - alpha
            flat[top : top + _BAND_ROWS] = np.rint(blended.clip(min=0, max=255))
    return flat
