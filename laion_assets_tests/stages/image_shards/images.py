"""Images in every format, of smooth random colours, so that codecs and filters have work to do."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from laion_assets.stages.image_shards.decoding.reencoded import Reencoded


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return a smooth RGB image."""
    small = np.random.default_rng(seed).integers(0, 255, (7, 7, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(width: int = 320, height: int = 240, seed: int = 0, **options: object) -> bytes:
    return encode(scene(width, height, seed), "JPEG", quality=90, **options)


def png16(image: Image.Image) -> bytes:
    """Return a 16-bit RGB PNG, which Pillow cannot write."""
    wide = np.asarray(image).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in wide.astype(">u2"))
    return _png(image.width, image.height, 16, 2, zlib.compress(rows))


def png_bomb(width: int, height: int) -> bytes:
    """Return a grey PNG with width x height in its header, and less data; the pixels are zeros."""
    return _png(width, height, 8, 0, zlib.compress(b"\0" * 100_000))


def _png(width: int, height: int, depth: int, colour: int, pixels: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def pixels(encoded: bytes) -> np.ndarray:
    """Decode an image to (H, W, 3) int32, RGB."""
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB")).astype(np.int32)


def stock_tuple(image: Reencoded) -> tuple[bytes | None, int | None, int | None, int | None, int | None, str | None]:
    """Return the result in the form of img2dataset's Resizer."""
    sizes = image.width, image.height, image.original_width, image.original_height
    return image.content, *sizes, image.error_message


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = np.mean((one.astype(np.float64) - other) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
