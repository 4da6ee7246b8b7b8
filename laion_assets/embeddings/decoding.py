"""Decoding images of a shard into the rows of a batch of pixels, in threads that hold no interpreter lock meanwhile."""

import io
import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

_JPEG = b"\xff\xd8"


@dataclass(frozen=True)
class ImageBytes:
    """One encoded image: `size` bytes at `offset` of a mapped tar."""

    mapped: mmap.mmap
    offset: int
    size: int

    def read(self) -> bytes:
        """The encoded image."""
        return self.mapped[self.offset : self.offset + self.size]


@dataclass(frozen=True)
class DecodedRows:
    """What became of some rows of a batch: those not named here lie in the batch's pixels.

    `odd` are images of another size than the batch's, as the model's own transform makes them: (3, size, size) float32.
    """

    odd: "list[tuple[int, torch.Tensor]]"
    undecodable: list[int]


def image_shape(images: Sequence[ImageBytes]) -> tuple[int, int] | None:
    """Height and width of the first of a few images that has a readable header."""
    from PIL import Image

    for image in images[:8]:
        try:
            with Image.open(io.BytesIO(image.read())) as opened:
                return opened.height, opened.width
        except Exception:  # noqa: S112  (Pillow raises many kinds; the decoder decides about this image later)
            continue
    return None


def decode_rows(
    images: Sequence[ImageBytes],
    rows: range,
    pixels: "np.ndarray | None",
    transform: "Callable[[Any], torch.Tensor]",
) -> DecodedRows:
    """Decode `images[i]` into `pixels[i]`, (n, h, w, 3) uint8 RGB, for i in `rows`; all are odd without `pixels`.

    JPEGs are decoded by libjpeg-turbo straight into place. What it refuses, other formats and other sizes go through
    Pillow, whose verdict on a damaged image counts.
    """
    import numpy as np
    import simplejpeg

    odd, undecodable = [], []
    for row in rows:
        content = images[row].read()
        if pixels is not None and content[:2] == _JPEG:
            try:
                if simplejpeg.decode_jpeg(content, "RGB", buffer=pixels[row]).shape == pixels.shape[1:]:
                    continue
            except ValueError:
                pass
        image = decode_image(content)
        if image is None:
            undecodable.append(row)
        elif pixels is not None and (image.height, image.width) == pixels.shape[1:3]:
            pixels[row] = np.asarray(image)
        else:
            odd.append((row, transform(image)))
    return DecodedRows(odd, undecodable)


def decode_image(content: bytes) -> Any:
    """The RGB Pillow image, fully decoded; None where the bytes do not decode."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.convert("RGB")
    except MemoryError:
        raise
    except Exception:
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, DecompressionBombError and more.
        return None
