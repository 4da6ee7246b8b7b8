"""Re-encode one image: read the header, decode, resize, encode.

With `images.exact_pixels` the output has the same bytes as that of img2dataset 1.47's Resizer, for 8-bit RGB photos
without an orientation tag: it uses the same OpenCV filters and rounding, but does not build two albumentations
transforms per image. Without it, large JPEGs are decoded at a smaller scale, and the filter `area` adds in another
order.
Imports OpenCV but not img2dataset, because it runs in the decoder process, which must start quickly.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from laion_assets.reasons import Reason, Rejection
from laion_assets.stages.image_shards.decoding import decoder
from laion_assets.stages.image_shards.decoding.area_filter import resize_area
from laion_assets.stages.image_shards.decoding.image_header import ImageHeader, read_header
from laion_assets.stages.image_shards.decoding.reencoded import Reencoded
from laion_assets.stages.image_shards.decoding.scaled_decoding import choose_denominator
from laion_assets.stages.image_shards.decoding.still_image import ANIMATION_MARKS

if TYPE_CHECKING:
    from laion_assets.stages.image_shards.settings import ImageSettings

_INTERPOLATIONS = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "bilinear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
    "lanczos4": cv2.INTER_LANCZOS4,
}
_QUALITIES = {
    "jpg": cv2.IMWRITE_JPEG_QUALITY,
    "png": cv2.IMWRITE_PNG_COMPRESSION,
    "webp": cv2.IMWRITE_WEBP_QUALITY,
}
_FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
_METADATA_MARKS = {
    "JPEG": (b"Exif\0\0", b"http://ns.adobe.com/", b"Photoshop 3.0"),
    "PNG": (b"eXIf", b"tEXt", b"zTXt", b"iTXt"),
    "WEBP": (b"EXIF", b"XMP "),
}
"""Bytes found in a file with EXIF, XMP, IPTC or text. A chance match in the pixels only costs a re-encoding."""

_UPRIGHT = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: image.transpose(1, 0, 2)[:, ::-1],
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: image.transpose(1, 0, 2)[::-1],
}
"""By EXIF orientation (CIPA DC-008, 4.6.4), the function that turns the stored (H, W, C) image upright."""


class ResizedImage(NamedTuple):
    """An image before it is encoded.

    `pixels` are (H, W, 3) uint8, BGR, upright, with a white background where the file was transparent (not `opaque`).
    `original` is the original (width, height), upright.
    """

    pixels: np.ndarray
    original: tuple[int, int]
    opaque: bool


class Reencoder:
    """Re-encodes images whose header is within the limits. Failures have a Reason. Not thread-safe."""

    def __init__(self, images: "ImageSettings", on_pixels: Callable[[int], None] = lambda pixels: None) -> None:
        """`on_pixels` is called with the number of pixels in a file's header, before the file is decoded."""
        self._images = images
        self._on_pixels = on_pixels
        self._upscale = _INTERPOLATIONS[images.upscale_interpolation]
        self._downscale = _INTERPOLATIONS[images.downscale_interpolation]
        self._encode_params = [int(_QUALITIES[images.encode_format]), images.encode_quality]
        self._own_area = not images.exact_pixels and self._downscale == cv2.INTER_AREA
        self._by_shorter = images.resize_mode in ("keep_ratio", "center_crop")
        self._max_area = min(images.max_pixels, images.max_image_area)
        cv2.setNumThreads(1)

    def __call__(self, data: bytes) -> Reencoded:
        """Decode, resize and encode one image. Never raises: a failure is a Reencoded with its reason."""
        try:
            header = read_header(data)
            self.check_size(header.width, header.height)
            self._on_pixels(header.width * header.height)
            if self._images.disable_all_reencoding:
                return Reencoded(data)
            image = self._resize_file(data, header)
            height, width = image.pixels.shape[:2]
            return Reencoded(self._encode(data, header, image), width, height, *image.original)
        except Rejection as rejection:
            return Reencoded(reason=rejection.reason, detail=rejection.detail)
        except MemoryError:
            return Reencoded(reason=Reason.DECODER_CRASH, detail="the memory bound of a decoder")
        except Exception as error:  # an unexpected error fails this image only
            return Reencoded(reason=Reason.INTERNAL, detail=type(error).__name__)

    def resize(self, data: bytes) -> ResizedImage:
        """Decode a file and return the upright image in the size and shape of the resize mode. Raises Rejection."""
        header = read_header(data)
        self.check_size(header.width, header.height)
        return self._resize_file(data, header)

    def check_size(self, width: int, height: int) -> None:
        """Check the size of an original image. Raises Rejection if it is too large, too small or too elongated."""
        least, longest = self._images.min_image_size, self._images.max_aspect_ratio
        if width * height > self._max_area:
            raise Rejection(Reason.TOO_MANY_PIXELS, f"{width} x {height} is more than {self._max_area:.0f} pixels")
        if min(width, height) < max(least, 1):
            raise Rejection(
                Reason.IMAGE_TOO_SMALL, f"{width} x {height}, but the shorter side must be at least {least}"
            )
        if max(width, height) > longest * min(width, height):
            raise Rejection(Reason.ASPECT_RATIO, f"{width} x {height} exceeds the aspect ratio {longest:g} to 1")

    def _resize_file(self, data: bytes, header: ImageHeader) -> ResizedImage:
        divisor = self._choose_denominator(header)
        image, opaque = decoder.decode(data, header, divisor, self.check_size)
        if divisor == 1:
            original = image.shape[1], image.shape[0]
            self.check_size(*original)
            image = self._resize_pixels(image)
        else:
            original = header.width, header.height
            extent = header.width / divisor, header.height / divisor
            image = resize_area(image, *self._target(*original), extent)
        if image.ndim == 2:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        if header.orientation in _UPRIGHT:
            image = np.ascontiguousarray(_UPRIGHT[header.orientation](image))
        if header.orientation >= 5:
            original = original[1], original[0]
        return ResizedImage(self._crop_or_pad(image) if self._resizes(*original) else image, original, opaque)

    def _encode(self, data: bytes, header: ImageHeader, image: ResizedImage) -> bytes:
        if self._images.skip_reencode and image.opaque and self._can_keep(data, header):
            return data
        done, encoded = cv2.imencode(f".{self._images.encode_format}", image.pixels, params=self._encode_params)
        if not done:
            raise Rejection(Reason.INTERNAL, "the encoder refused the image")
        return encoded.tobytes()

    def _can_keep(self, data: bytes, header: ImageHeader) -> bool:
        """Whether the file can be kept unchanged: output format, no resize, and no personal metadata."""
        if _FORMATS[self._images.encode_format] != header.format or header.orientation != 1:
            return False
        if self._resizes(header.width, header.height):
            return False
        if any(mark in data for mark in ANIMATION_MARKS.get(header.format, ())):
            return False
        return self._images.keep_personal_exif or not any(mark in data for mark in _METADATA_MARKS[header.format])

    def _choose_denominator(self, header: ImageHeader) -> int:
        if not self._own_area or header.format != "JPEG":
            return 1
        return choose_denominator(header, *self._target(header.width, header.height))

    def _side(self, width: int, height: int) -> int:
        """Return the side that the resize mode scales to `image_size`."""
        return min(width, height) if self._by_shorter else max(width, height)

    def _resizes(self, width: int, height: int) -> bool:
        if self._images.resize_mode == "no":
            return False
        return not self._images.resize_only_if_bigger or self._side(width, height) > self._images.image_size

    def _target(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height after the resize and before a crop or border, rounded as in img2dataset 1.47."""
        if not self._resizes(width, height):
            return width, height
        scale = self._images.image_size / self._side(width, height)
        return max(1, round(width * scale)), max(1, round(height * scale))

    def _resize_pixels(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        target = self._target(width, height)
        if target == (width, height):
            return image
        downscale = self._side(width, height) > self._images.image_size
        if downscale and self._own_area:
            return resize_area(image, *target)
        interpolation = self._downscale if downscale else self._upscale
        return cv2.resize(image, target, interpolation=interpolation)

    def _crop_or_pad(self, image: np.ndarray) -> np.ndarray:
        """Apply the crop or the border of the resize mode."""
        height, width = image.shape[:2]
        size = self._images.image_size
        if self._images.resize_mode == "center_crop":
            top, left = (height - size) // 2, (width - size) // 2
            return image[top : top + size, left : left + size]
        if self._images.resize_mode == "border":
            high, wide = size - height, size - width
            top, left = high // 2, wide // 2
            white = (255, 255, 255)
            return cv2.copyMakeBorder(image, top, high - top, left, wide - left, cv2.BORDER_CONSTANT, value=white)
        return image
