"""Encoders for image formats of the web. The same pixels always give the same bytes."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

JPEG_QUALITY = 90
_ORIENTATION_TAG, _GPS_TAG, _SOFTWARE_TAG = 0x0112, 0x8825, 0x0131


def _save(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(pixels: np.ndarray) -> bytes:
    """Encode (H, W, 3) uint8 as a baseline JPEG."""
    return _save(Image.fromarray(pixels), "JPEG", quality=JPEG_QUALITY)


def progressive_jpeg(pixels: np.ndarray) -> bytes:
    return _save(Image.fromarray(pixels), "JPEG", quality=JPEG_QUALITY, progressive=True)


def cmyk_jpeg(pixels: np.ndarray) -> bytes:
    """Encode a four-channel JPEG with Adobe's marker, as used for print."""
    return _save(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=JPEG_QUALITY)


def grey_jpeg(pixels: np.ndarray) -> bytes:
    return _save(Image.fromarray(pixels).convert("L"), "JPEG", quality=JPEG_QUALITY)


def rotated_jpeg(pixels: np.ndarray) -> bytes:
    """Encode a JPEG rotated by 90 degrees, with EXIF orientation 6: upright only for readers that apply it."""
    exif = Image.Exif()
    exif[_ORIENTATION_TAG] = 6
    return _save(Image.fromarray(np.ascontiguousarray(np.rot90(pixels))), "JPEG", quality=JPEG_QUALITY, exif=exif)


def located_jpeg(pixels: np.ndarray) -> bytes:
    """Encode a JPEG with a GPS location in EXIF: personal data that must not be in a dataset."""
    exif = Image.Exif()
    exif[_SOFTWARE_TAG] = "sample camera 1.0"
    exif[_GPS_TAG] = {1: "N", 2: (48.0, 51.0, 29.6), 3: "E", 4: (2.0, 17.0, 40.2)}
    return _save(Image.fromarray(pixels), "JPEG", quality=JPEG_QUALITY, exif=exif)


def png(pixels: np.ndarray) -> bytes:
    return _save(Image.fromarray(pixels), "PNG", compress_level=1)


def deep_png(pixels: np.ndarray) -> bytes:
    """Encode an RGB PNG with 16 bits per channel. The low byte repeats the high byte, which is the 8-bit value."""
    height, width = pixels.shape[:2]
    samples = (pixels.astype(">u2") * 257).reshape(height, width * 3)
    lines = np.zeros((height, 1 + width * 6), np.uint8)
    lines[:, 1:] = samples.view(np.uint8).reshape(height, width * 6)
    return _png_file(struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0), zlib.compress(lines.tobytes(), 1))


def palette_png(pixels: np.ndarray) -> bytes:
    """Encode a palette PNG with 63 colours and a transparent corner (an eighth of width and height)."""
    image = Image.fromarray(pixels).quantize(63, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    indices = np.array(image)
    indices[: max(1, indices.shape[0] // 8), : max(1, indices.shape[1] // 8)] = 63
    palette = (image.getpalette() or [])[: 63 * 3]
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


@dataclass(frozen=True)
class Format:
    """One format of valid images: its pages in the full crawl, its media type, and its encoder of (H, W, 3) uint8."""

    pages: int
    media_type: str
    encode: Callable[[np.ndarray], bytes]


FORMATS: dict[str, Format] = {
    "jpeg": Format(0, "image/jpeg", jpeg),
    "progressive_jpeg": Format(60, "image/jpeg", progressive_jpeg),
    "cmyk_jpeg": Format(30, "image/jpeg", cmyk_jpeg),
    "grey_jpeg": Format(40, "image/jpeg", grey_jpeg),
    "exif_rotated": Format(40, "image/jpeg", rotated_jpeg),
    "exif_located": Format(40, "image/jpeg", located_jpeg),
    "png": Format(120, "image/png", png),
    "deep_png": Format(20, "image/png", deep_png),
    "palette_png": Format(30, "image/png", palette_png),
    "webp": Format(120, "image/webp", webp),
    "gif": Format(40, "image/gif", gif),
    "bmp": Format(20, "image/bmp", bmp),
}
"""The formats of valid images, by name. All remaining pages are `jpeg`."""

ONE_PIXEL_GIF = bytes.fromhex("47494638396101000100800000ffffff00000021f90400000000002c00000000010001000002024401003b")


@lru_cache(maxsize=1)
def bomb_png(side: int = 30_000) -> bytes:
    """Encode a white 1-bit PNG of `side` x `side` pixels: about 170 KB that decode to `side`^2 pixels."""
    line = b"\0" + b"\xff" * ((side + 7) // 8)
    packer = zlib.compressobj(6)
    packed = b"".join(packer.compress(line * 100) for _ in range(side // 100)) + packer.flush()
    return _png_file(struct.pack(">IIBBBBB", side, side // 100 * 100, 1, 0, 0, 0, 0), packed)


def _png_file(header: bytes, packed: bytes) -> bytes:
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
