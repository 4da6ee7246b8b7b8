"""Decode a file to 8-bit pixels, in the stored orientation. Runs in the decoder process: imports OpenCV.

Nine of ten images are JPEGs, and they take most of the time. So libjpeg-turbo (simplejpeg) decodes them directly, which
takes an eighth less time than OpenCV with the same library and produces the same pixels. JPEGs with libjpeg warnings
and unusual JPEGs fall back to OpenCV, which also decides what is undecodable, as in img2dataset.
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

Image.preinit()  # imports the plugins now; the sandbox prevents it later

_FLAGS = {
    1: cv2.IMREAD_UNCHANGED,
    2: cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_IGNORE_ORIENTATION,
    4: cv2.IMREAD_REDUCED_COLOR_4 | cv2.IMREAD_IGNORE_ORIENTATION,
    8: cv2.IMREAD_REDUCED_COLOR_8 | cv2.IMREAD_IGNORE_ORIENTATION,
}
"""OpenCV flags by the denominator of a JPEG's scale."""
_OS2_HEADER = (12).to_bytes(4, "little")
"""The header length of an OS/2 BMP. OpenCV decodes such a file as grey unless colour is requested."""
_BAND_ROWS = 64
"""Rows blended at a time. A whole image of 100 million pixels would take 2.4 GB as float64."""


def decode(
    data: bytes, header: ImageHeader, denominator: int, check_size: Callable[[int, int], None]
) -> tuple[np.ndarray, bool]:
    """Decode an image to (H, W) uint8 grey or (H, W, 3) uint8 BGR, with a white background. Raises Rejection.

    A JPEG is scaled to 1/`denominator` of its size. Also returns whether the image is opaque. `check_size` is called
    with the width and height of a GIF's frame before it is decoded.
    """
    transparent = None
    if header.format == "GIF":
        image = _decode_gif(data, check_size)
    elif header.format == "JPEG":
        check_scans(data)
        fast = _decode_jpeg(data, header, denominator) if header.sampling else None
        image = _decode_cv2(data, denominator) if fast is None else fast
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
    return _blend_on_white(image) if blended else image, not blended and transparent is None


def _decode_jpeg(data: bytes, header: ImageHeader, denominator: int) -> np.ndarray | None:
    """Decode a JPEG with libjpeg-turbo; None if there is a warning or the JPEG is unusual."""
    kind = {1: "GRAY", 3: "BGR"}.get(len(header.sampling))
    if kind is None:
        return None
    least = -(-header.height // denominator), -(-header.width // denominator)
    try:
        image = simplejpeg.decode_jpeg(data, kind, min_height=least[0], min_width=least[1], min_factor=denominator)
    except ValueError:
        return None
    if image.shape[:2] != least:  # the header was that of an embedded image
        return None
    return image if kind == "BGR" else image[..., 0]


def _decode_cv2(data: bytes, denominator: int, colour: bool = False) -> np.ndarray:
    """Decode a JPEG, PNG, WebP or BMP with OpenCV. Raises Rejection for a truncated file, as its decoders do.

    A damaged JPEG that has all its scans decodes as in a browser. `colour` returns three channels for any file, without
    transparency.
    """
    try:
        flags = cv2.IMREAD_COLOR if colour else _FLAGS[denominator]
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise Rejection(Reason.UNDECODABLE, "the decoder failed") from error
    if image is None:
        raise Rejection(Reason.UNDECODABLE, "the decoder failed")
    return image


def _decode_gif(data: bytes, check_size: Callable[[int, int], None]) -> np.ndarray:
    """Decode the first frame with Pillow; this OpenCV has no GIF decoder."""
    try:
        with Image.open(io.BytesIO(data), formats=["GIF"]) as gif:
            check_size(*gif.size)  # a frame may be larger than the size in the header
            frame = np.asarray(gif.convert("RGBA"))
    except Rejection:
        raise
    except Exception as error:
        raise Rejection(Reason.UNDECODABLE, "the GIF decoder failed") from error
    return cv2.cvtColor(frame, cv2.COLOR_RGBA2BGRA)


def _blend_on_white(image: np.ndarray) -> np.ndarray:
    """Blend (H, W, 4) uint8 with a white background, rounded as in img2dataset, in bands of rows."""
    flat = np.ascontiguousarray(image[..., :3])
    for top in range(0, len(image), _BAND_ROWS):
        alpha = image[top : top + _BAND_ROWS, :, 3, np.newaxis]
        if alpha.min() < 255:
            blended = alpha / 255 * flat[top : top + _BAND_ROWS] + 255 - alpha
            flat[top : top + _BAND_ROWS] = np.rint(blended.clip(min=0, max=255))
    return flat
