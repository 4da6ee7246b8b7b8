"""Decode images of a shard into the rows of a batch of pixels."""

import io
import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laion_assets.models.images import decode_image
from laion_assets.stages.clip_embeddings.pipeline.open_tar import open_tar

if TYPE_CHECKING:
    import numpy as np
    import torch

_JPEG = b"\xff\xd8"


@dataclass(frozen=True)
class ImageBytes:
    """One encoded image: `size` bytes at `offset` of a verified tar."""

    tar: "OpenTar"
    offset: int
    size: int

    def view(self) -> memoryview:
        """Return the encoded image without a copy. Release it before the tar is closed."""
        return memoryview(self.tar.mapped)[self.offset : self.offset + self.size]


@dataclass(frozen=True)
class OpenTar:
    """A memory-mapped tar; `identity` is that of the verified file (`open_tar`)."""

    path: Path
    identity: tuple[int, ...]
    mapped: mmap.mmap = field(compare=False)

    @classmethod
    def open(cls, path: Path, identity: tuple[int, ...]) -> "OpenTar":
        """Map the tar. Raises IntegrityError if it was replaced since it was verified."""
        return cls(path, identity, open_tar(path, identity))


@dataclass(frozen=True)
class DecodedRows:
    """Rows of a batch that are not in the batch's pixels.

    `odd` are images of another size than the batch, after the model's own transform: (3, size, size) float32.
    """

    odd: "list[tuple[int, torch.Tensor]]"
    undecodable: list[int]


def image_shape(images: Sequence[ImageBytes]) -> tuple[int, int] | None:
    """Return height and width of the first of a few images with a readable header."""
    from PIL import Image

    for image in images[:8]:
        try:
            with Image.open(io.BytesIO(image.view())) as opened:
                return opened.height, opened.width
        except Exception:  # noqa: S112  (Pillow raises many kinds; this image is decoded later)
            continue
    return None


def decode_rows(
    images: Sequence[ImageBytes],
    rows: range,
    pixels: "np.ndarray | None",
    transform: "Callable[[Any], torch.Tensor]",
) -> DecodedRows:
    """Decode `images[i]` into `pixels[i]`, (n, h, w, 3) uint8 RGB, for i in `rows`; without `pixels` all are odd."""
    odd, undecodable = list(rows), list[int]()
    if pixels is not None:
        odd, undecodable = decode_into([images[row].view() for row in rows], rows.start, pixels)
    return transform_rows(images, odd, undecodable, transform)


def transform_rows(
    images: Sequence[ImageBytes], odd: list[int], undecodable: list[int], transform: "Callable[[Any], torch.Tensor]"
) -> DecodedRows:
    """Send the odd rows through the model's own transform."""
    transformed = []
    for row in odd:
        image = decode_image(images[row].view())
        if image is None:
            undecodable.append(row)
        else:
            transformed.append((row, transform(image)))
    return DecodedRows(transformed, sorted(undecodable))


def decode_into(contents: Sequence[memoryview], first: int, pixels: "np.ndarray") -> tuple[list[int], list[int]]:
    """Decode into the rows of `pixels` from `first` on; return the rows of another size and the undecodable rows.

    libjpeg-turbo decodes JPEGs directly into place. Pillow decodes other formats and what libjpeg-turbo refuses; an
    image that Pillow refuses is undecodable.
    """
    import numpy as np
    import simplejpeg

    odd, undecodable = [], []
    for row, content in enumerate(contents, first):
        if content[:2] == _JPEG:
            try:
                if simplejpeg.decode_jpeg(content, "RGB", buffer=pixels[row]).shape == pixels.shape[1:]:
                    continue
            except ValueError:
                pass
        image = decode_image(content)
        if image is None:
            undecodable.append(row)
        elif (image.height, image.width) == pixels.shape[1:3]:
            pixels[row] = np.asarray(image)
        else:
            odd.append(row)
    return odd, undecodable
