"""img2dataset's resizer behind a look at the header, with the right pixels for the formats it gets wrong.

On 8-bit RGB photos without an orientation tag the output is byte for byte what img2dataset 1.47 writes: the same
OpenCV filters and roundings, without building two albumentations transforms for each picture. Only JPEGs that are
decoded at a smaller scale (`images.scaled_decoding`) differ, a little. Worker-side: imports img2dataset and OpenCV.
"""

import io
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from img2dataset.resizer import ResizeMode, Resizer

from laion_assets.images import decoder
from laion_assets.images.image_header import ImageHeader, read_header
from laion_assets.images.reasons import Reason, Rejection
from laion_assets.images.scaled_decoding import Reduction, reduction

if TYPE_CHECKING:
    from laion_assets.images.settings import ImageSettings

ENCODE_FORMAT = "jpg"
Resized = tuple[bytes | None, int | None, int | None, int | None, int | None, str | None]
"""(encoded picture, width, height, original width, original height, error): what img2dataset's Downloader expects."""

_UPRIGHT = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: image.transpose(1, 0, 2)[:, ::-1],
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: image.transpose(1, 0, 2)[::-1],
}
"""By EXIF orientation (CIPA DC-008, 4.6.4), what turns the stored (H, W, C) picture upright."""


class GuardedResizer(Resizer):
    """A Resizer that decodes only what its header allows, and says why not by Reason. Not thread-safe."""

    def __init__(self, images: "ImageSettings") -> None:
        super().__init__(
            image_size=images.image_size,
            resize_mode=images.resize_mode,
            resize_only_if_bigger=False,
            encode_quality=images.encode_quality,
            encode_format=ENCODE_FORMAT,
            min_image_size=images.min_image_size,
            max_image_area=images.max_pixels,
            max_aspect_ratio=images.max_aspect_ratio,
        )
        self._scaled_decoding = images.scaled_decoding and self.downscale_interpolation == cv2.INTER_AREA
        cv2.setNumThreads(1)

    def __call__(self, img_stream: io.BytesIO, blurring_bbox_list: Any = None) -> Resized:
        """Decode, resize and encode one picture. Original width and height are those of the upright picture."""
        try:
            image, original_width, original_height = self.pixels(img_stream.getvalue())
            done, encoded = cv2.imencode(f".{self.encode_format}", image, params=self.encode_params)
            if not done:
                raise Rejection(Reason.INTERNAL, "the encoder refused the picture")
            height, width = image.shape[:2]
            return encoded.tobytes(), width, height, original_width, original_height, None
        except Rejection as rejection:
            return None, None, None, None, None, str(rejection)
        except MemoryError:
            return None, None, None, None, None, f"{Reason.LOCAL_FAULT.value}: out of memory"
        except Exception as error:  # a picture's accident costs the picture
            return None, None, None, None, None, f"{Reason.INTERNAL.value}: {type(error).__name__}"

    def pixels(self, data: bytes) -> tuple[np.ndarray, int, int]:
        """The upright picture in the size and shape of the resize mode, (H, W, 3) uint8, BGR, on white where it was
        transparent; and the width and height that it had upright. Raises Rejection."""
        header = read_header(data)
        self._check_size(header.width, header.height)
        reduced = self._reduction(header)
        image = decoder.decode(data, header.format, reduced.denominator if reduced else 1, self._check_size)
        if reduced is None:
            original = image.shape[1], image.shape[0]
            self._check_size(*original)
            image = self._resized(image)
        else:
            original = header.width, header.height
            image = _regrid(image, reduced)
        if image.ndim == 2:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        if header.orientation in _UPRIGHT:
            image = np.ascontiguousarray(_UPRIGHT[header.orientation](image))
        if header.orientation >= 5:
            original = original[1], original[0]
        return self._shaped(image) if self._resizes(*original) else image, *original

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self.max_image_area:
            raise Rejection(Reason.TOO_MANY_PIXELS, f"{width} x {height} is more than {self.max_image_area} pixels")
        if min(width, height) < max(self.min_image_size, 1):
            raise Rejection(Reason.IMAGE_TOO_SMALL, f"{width} x {height}, and {self.min_image_size} is the least side")
        if max(width, height) > self.max_aspect_ratio * min(width, height):
            raise Rejection(Reason.ASPECT_RATIO, f"{width} x {height} is longer than {self.max_aspect_ratio:g} to 1")

    def _reduction(self, header: ImageHeader) -> Reduction | None:
        if not self._scaled_decoding or header.format != "JPEG":
            return None
        return reduction(header, *self._target(header.width, header.height))

    def _side(self, width: int, height: int) -> int:
        """The side that the resize mode makes `image_size` long."""
        by_shorter = self.resize_mode in (ResizeMode.keep_ratio, ResizeMode.center_crop)
        return min(width, height) if by_shorter else max(width, height)

    def _resizes(self, width: int, height: int) -> bool:
        if self.resize_mode is ResizeMode.no:
            return False
        return not self.resize_only_if_bigger or self._side(width, height) > self.image_size

    def _target(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after the resize, before a crop or a border, as img2dataset 1.47 rounds them."""
        if not self._resizes(width, height):
            return width, height
        scale = self.image_size / self._side(width, height)
        return max(1, round(width * scale)), max(1, round(height * scale))

    def _resized(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        target = self._target(width, height)
        if target == (width, height):
            return image
        downscale = self._side(width, height) > self.image_size
        interpolation = self.downscale_interpolation if downscale else self.upscale_interpolation
        return cv2.resize(image, target, interpolation=interpolation)

    def _shaped(self, image: np.ndarray) -> np.ndarray:
        """The crop or the border of the resize mode."""
        height, width = image.shape[:2]
        if self.resize_mode is ResizeMode.center_crop:
            top, left = (height - self.image_size) // 2, (width - self.image_size) // 2
            return image[top : top + self.image_size, left : left + self.image_size]
        if self.resize_mode is ResizeMode.border:
            high, wide = self.image_size - height, self.image_size - width
            top, left = high // 2, wide // 2
            white = (255, 255, 255)
            return cv2.copyMakeBorder(image, top, high - top, left, wide - left, cv2.BORDER_CONSTANT, value=white)
        return image


def _regrid(image: np.ndarray, reduced: Reduction) -> np.ndarray:
    """A scaled picture (H, W, 3) by the filter `area`, (rows.kept, columns.kept, 3)."""
    columns, rows = reduced.columns, reduced.rows
    height, width = image.shape[:2]
    if (columns.source, rows.source) != (width, height):
        below, beside = rows.source - height, columns.source - width
        image = cv2.copyMakeBorder(image, 0, below, 0, beside, cv2.BORDER_REPLICATE)
    return cv2.resize(image, (columns.made, rows.made), interpolation=cv2.INTER_AREA)[: rows.kept, : columns.kept]
