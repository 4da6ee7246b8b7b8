"""Encoding pictures in the forms that the web has: byte for byte the same each time for the same pixels."""

import io
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image

JPEG_QUALITY = 90
_ORIENTATION_TAG, _GPS_TAG, _SOFTWARE_TAG = 0x0112, 0x8825, 0x0131


def _save(picture: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def jpeg(pixels: np.ndarray) -> bytes:
    """Baseline JPEG of (H, W, 3) uint8."""
    return _save(Image.fromarray(pixels), "JPEG", quality=JPEG_QUALITY)


def progressive_jpeg(pixels: np.ndarray) -> bytes:
    return _save(Image.fromarray(pixels), "JPEG", quality=JPEG_QUALITY, progressive=True)


def cmyk_jpeg(pixels: np.ndarray) -> bytes:
    """Four-channel JPEG with Adobe's marker, as print shops upload them."""
    return _save(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=JPEG_QUALITY)


def grey_jpeg(pixels: np.ndarray) -> bytes:
    return _save(Image.fromarray(pixels).convert("L"), "JPEG", quality=JPEG_QUALITY)


def rotated_jpeg(pixels: np.ndarray) -> bytes:
    """JPEG stored lying on its left side with EXIF orientation 6: upright only for a reader that heeds it."""
    exif = Image.Exif()
    exif[_ORIENTATION_TAG] = 6
    return _save(Image.fromarray(np.ascontiguousarray(np.rot90(pixels))), "JPEG", quality=JPEG_QUALITY, exif=exif)


def located_jpeg(pixels: np.ndarray) -> bytes:
    """JPEG whose EXIF says where it was taken: personal data that has no place in a dataset."""
    exif = Image.Exif()
    exif[_SOFTWARE_TAG] = "sample camera 1.0"
    exif[_GPS_TAG] = {1: "N", 2: (48.0, 51.0, 29.6), 3: "E", 4: (2.0, 17.0, 40.2)}
    return _save(Image.fromarray(pixels), "JPEG", quality=JPEG_QUALITY, exif=exif)


def png(pixels: np.ndarray) -> bytes:
    return _save(Image.fromarray(pixels), "PNG", compress_level=1)


def deep_png(pixels: np.ndarray) -> bytes:
    """RGB PNG with 16 bits a channel; the high byte is the 8-bit value, the low byte repeats it."""
    height, width = pixels.shape[:2]
    samples = (pixels.astype(">u2") * 257).reshape(height, width * 3)
    lines = np.zeros((height, 1 + width * 6), np.uint8)
    lines[:, 1:] = samples.view(np.uint8).reshape(height, width * 6)
    return _png_file(struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0), zlib.compress(lines.tobytes(), 1))


def palette_png(pixels: np.ndarray) -> bytes:
    """Palette PNG with 63 colours and a transparent corner (an eighth of each side)."""
    picture = Image.fromarray(pixels).quantize(63, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    indices = np.array(picture)
    indices[: max(1, indices.shape[0] // 8), : max(1, indices.shape[1] // 8)] = 63
    palette = (picture.getpalette() or [])[: 63 * 3]
    corner = Image.fromarray(indices)
    corner.putpalette(palette + [0] * (64 * 3 - len(palette)))
    return _save(corner, "PNG", transparency=63, compress_level=1)


def webp(pixels: np.ndarray) -> bytes:
    return _save(Image.fromarray(pixels), "WEBP", quality=JPEG_QUALITY, method=0)


def gif(pixels: np.ndarray) -> bytes:
    return _save(Image.fromarray(pixels).quantize(128, method=Image.Quantize.FASTOCTREE), "GIF")


def bmp(pixels: np.ndarray) -> bytes:
    return _save(Image.fromarray(pixels), "BMP")


def tiff(pixels: np.ndarray) -> bytes:
    return _save(Image.fromarray(pixels), "TIFF")


FORMS: dict[str, tuple[int, str, Callable[[np.ndarray], bytes]]] = {
    "jpeg": (0, "image/jpeg", jpeg),
    "progressive_jpeg": (60, "image/jpeg", progressive_jpeg),
    "cmyk_jpeg": (30, "image/jpeg", cmyk_jpeg),
    "grey_jpeg": (40, "image/jpeg", grey_jpeg),
    "exif_rotated": (40, "image/jpeg", rotated_jpeg),
    "exif_located": (40, "image/jpeg", located_jpeg),
    "png": (120, "image/png", png),
    "deep_png": (20, "image/png", deep_png),
    "palette_png": (30, "image/png", palette_png),
    "webp": (120, "image/webp", webp),
    "gif": (40, "image/gif", gif),
    "bmp": (20, "image/bmp", bmp),
}
"""Good pictures: pages in the full crawl, media type and encoder of each form; `jpeg` takes what the others leave."""

ONE_PIXEL_GIF = bytes.fromhex("47494638396101000100800000ffffff00000021f90400000000002c00000000010001000002024401003b")


@lru_cache(maxsize=1)
def bomb_png(side: int = 30_000) -> bytes:
    """A grey 1-bit PNG of `side` x `side` pixels, all white: about 170 KB that decode to `side`^2 pixels."""
    line = b"\0" + b"\xff" * ((side + 7) // 8)
    packer = zlib.compressobj(6)
    packed = b"".join(packer.compress(line * 100) for _ in range(side // 100)) + packer.flush()
    return _png_file(struct.pack(">IIBBBBB", side, side // 100 * 100, 1, 0, 0, 0, 0), packed)


def _png_file(header: bytes, packed: bytes) -> bytes:
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
