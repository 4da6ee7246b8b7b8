"""From a file's bytes to 8-bit pixels, in the orientation in which they are stored. Worker-side: imports OpenCV.

JPEGs are nine of ten pictures and most of the time, so they go straight to libjpeg-turbo (simplejpeg), which takes an
eighth less time than OpenCV around the same library and gives the same pixels. It takes sound files of the usual kinds
only; all others, and the verdict on what is damaged, are OpenCV's, as in img2dataset.
"""

import io
from collections.abc import Callable

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from laion_assets.reasons import Reason, Rejection
from laion_assets.stages.image_shards.decoding.image_header import ImageHeader, check_scans
from laion_assets.stages.image_shards.decoding.still_image import still_png, still_webp

Image.preinit()  # imports the plugins, which the sandbox does not allow later

_FLAGS = {
    1: cv2.IMREAD_UNCHANGED,
    2: cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_IGNORE_ORIENTATION,
    4: cv2.IMREAD_REDUCED_COLOR_4 | cv2.IMREAD_IGNORE_ORIENTATION,
    8: cv2.IMREAD_REDUCED_COLOR_8 | cv2.IMREAD_IGNORE_ORIENTATION,
}
"""By the denominator of a JPEG's scale."""
_OS2_HEADER = (12).to_bytes(4, "little")
"""The length of the header of a BMP of OS/2. OpenCV makes a grey image of every such file unless asked for colour."""
_BAND_ROWS = 64
"""Rows blended at once: in float64 a whole picture of 100 million pixels would take 2.4 GB."""


def decode(
    data: bytes, header: ImageHeader, denominator: int, check_size: Callable[[int, int], None]
) -> tuple[np.ndarray, bool]:
    """The picture, (H, W) uint8 grey or (H, W, 3) uint8 BGR, on white where it was transparent; a JPEG at one
    `denominator`-th of its size. And whether the format's pixels have no transparency. `check_size` gets the width and
    height of a GIF's frame before it is decoded.

    Raises Rejection.
    """
    transparent = None
    if header.format == "GIF":
        image = _decode_gif(data, check_size)
    elif header.format == "JPEG":
        check_scans(data)
        soundly = _decode_jpeg(data, header, denominator) if header.sampling else None
        image = _decode_cv2(data, denominator) if soundly is None else soundly
    else:
        if header.format == "PNG":
            data, transparent = still_png(data)
        elif header.format == "WEBP":
            data = still_webp(data)
        image = _decode_cv2(data, 1, header.format == "BMP" and data[14:18] == _OS2_HEADER)
    if transparent is not None:
        image[image == transparent] = np.iinfo(image.dtype).max
    if image.dtype == np.uint16:
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    if image.dtype != np.uint8:
        raise Rejection(Reason.UNDECODABLE, f"samples of type {image.dtype}")
    blended = image.ndim == 3 and image.shape[2] == 4
    return _on_white(image) if blended else image, not blended and transparent is None


def _decode_jpeg(data: bytes, header: ImageHeader, denominator: int) -> np.ndarray | None:
    """What libjpeg-turbo makes of a JPEG in which it finds nothing to complain of; None for all others."""
    kind = {1: "GRAY", 3: "BGR"}.get(len(header.sampling))
    if kind is None:
        return None
    least = -(-header.height // denominator), -(-header.width // denominator)
    try:
        image = simplejpeg.decode_jpeg(data, kind, min_height=least[0], min_width=least[1], min_factor=denominator)
    except ValueError:
        return None
    if image.shape[:2] != least:  # the header was another's: a picture in a picture
        return None
    return image if kind == "BGR" else image[..., 0]


def _decode_cv2(data: bytes, denominator: int, colour: bool = False) -> np.ndarray:
    """What OpenCV makes of a JPEG, PNG, WebP or BMP. A file that is cut short is refused, by its decoders' own rule;
    a damaged JPEG whose scans are all there decodes as every browser shows it. `colour` makes three
    channels of any file, without transparency."""
    try:
        flags = cv2.IMREAD_COLOR if colour else _FLAGS[denominator]
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise Rejection(Reason.UNDECODABLE, "the decoder refused it") from error
    if image is None:
        raise Rejection(Reason.UNDECODABLE, "the decoder refused it")
    return image


def _decode_gif(data: bytes, check_size: Callable[[int, int], None]) -> np.ndarray:
    """The first frame; this OpenCV has no GIF decoder."""
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
