"""One picture's way from the file that was fetched to the file that is kept: header, decode, resize, encode.

With `images.exact_pixels` the output is byte for byte what img2dataset 1.47's Resizer writes, on 8-bit RGB photos
without an orientation tag: the same OpenCV filters and roundings, without building two albumentations transforms for
each picture. Without it large JPEGs are decoded at a smaller scale, and the filter `area` sums in another order.
Imports OpenCV, not img2dataset: it runs in the decoder's process, which has to start quickly.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from laion_assets.reasons import Reason, Rejection
from laion_assets.stages.image_shards.decoding import decoder
from laion_assets.stages.image_shards.decoding.area_filter import resize_area
from laion_assets.stages.image_shards.decoding.image_header import ImageHeader, read_header
from laion_assets.stages.image_shards.decoding.scaled_decoding import denominator
from laion_assets.stages.image_shards.decoding.still_image import ANIMATION_MARKS

if TYPE_CHECKING:
    from laion_assets.stages.image_shards.settings import ImageSettings

Reencoded = tuple[bytes | None, int | None, int | None, int | None, int | None, str | None]
"""(encoded picture, width, height, original width, original height, error): what img2dataset's Downloader expects."""

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
"""What stands in a file that holds EXIF, XMP, IPTC or text; found by chance in the pixels, they cost a re-encoding."""

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


class ReencodedImage(NamedTuple):
    """`pixels` are (H, W, 3) uint8, BGR, upright, on white where the file was transparent (not `opaque`); `original` is
    the (width, height) that it had upright."""

    pixels: np.ndarray
    original: tuple[int, int]
    opaque: bool


class Reencoder:
    """Decodes only what the header allows, and says why not by Reason. Not thread-safe."""

    def __init__(self, images: "ImageSettings", on_pixels: Callable[[int], None] = lambda pixels: None) -> None:
        """`on_pixels` is called with the number of pixels that a file's header declares, before they are decoded."""
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
        """Decode, resize and encode one picture. Original width and height are those of the upright picture."""
        try:
            header = read_header(data)
            self.check_size(header.width, header.height)
            self._on_pixels(header.width * header.height)
            if self._images.disable_all_reencoding:
                return data, None, None, None, None, None
            picture = self._picture(data, header)
            height, width = picture.pixels.shape[:2]
            return self._encoded(data, header, picture), width, height, *picture.original, None
        except Rejection as rejection:
            return None, None, None, None, None, str(rejection)
        except MemoryError:
            return None, None, None, None, None, f"{Reason.DECODER_CRASH.value}: the memory bound of a decoder"
        except Exception as error:  # a picture's accident costs the picture
            return None, None, None, None, None, f"{Reason.INTERNAL.value}: {type(error).__name__}"

    def picture(self, data: bytes) -> ReencodedImage:
        """The upright picture in the size and shape of the resize mode. Raises Rejection."""
        header = read_header(data)
        self.check_size(header.width, header.height)
        return self._picture(data, header)

    def check_size(self, width: int, height: int) -> None:
        """Raises Rejection for a picture that is too large, too small or too long."""
        least, longest = self._images.min_image_size, self._images.max_aspect_ratio
        if width * height > self._max_area:
            raise Rejection(Reason.TOO_MANY_PIXELS, f"{width} x {height} is more than {self._max_area:.0f} pixels")
        if min(width, height) < max(least, 1):
            raise Rejection(Reason.IMAGE_TOO_SMALL, f"{width} x {height}, and {least} is the least side")
        if max(width, height) > longest * min(width, height):
            raise Rejection(Reason.ASPECT_RATIO, f"{width} x {height} is longer than {longest:g} to 1")

    def _picture(self, data: bytes, header: ImageHeader) -> ReencodedImage:
        divisor = self._denominator(header)
        image, opaque = decoder.decode(data, header, divisor, self.check_size)
        if divisor == 1:
            original = image.shape[1], image.shape[0]
            self.check_size(*original)
            image = self._resized(image)
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
        return ReencodedImage(self._shaped(image) if self._resizes(*original) else image, original, opaque)

    def _encoded(self, data: bytes, header: ImageHeader, picture: ReencodedImage) -> bytes:
        if self._images.skip_reencode and picture.opaque and self._may_stay(data, header):
            return data
        done, encoded = cv2.imencode(f".{self._images.encode_format}", picture.pixels, params=self._encode_params)
        if not done:
            raise Rejection(Reason.INTERNAL, "the encoder refused the picture")
        return encoded.tobytes()

    def _may_stay(self, data: bytes, header: ImageHeader) -> bool:
        """Whether the file can be kept as it is: the same format, the same pixels and nothing personal in it."""
        if _FORMATS[self._images.encode_format] != header.format or header.orientation != 1:
            return False
        if self._resizes(header.width, header.height):
            return False
        if any(mark in data for mark in ANIMATION_MARKS.get(header.format, ())):
            return False
        return self._images.keep_personal_exif or not any(mark in data for mark in _METADATA_MARKS[header.format])

    def _denominator(self, header: ImageHeader) -> int:
        if not self._own_area or header.format != "JPEG":
            return 1
        return denominator(header, *self._target(header.width, header.height))

    def _side(self, width: int, height: int) -> int:
        """The side that the resize mode makes `image_size` long."""
        return min(width, height) if self._by_shorter else max(width, height)

    def _resizes(self, width: int, height: int) -> bool:
        if self._images.resize_mode == "no":
            return False
        return not self._images.resize_only_if_bigger or self._side(width, height) > self._images.image_size

    def _target(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after the resize, before a crop or a border, as img2dataset 1.47 rounds them."""
        if not self._resizes(width, height):
            return width, height
        scale = self._images.image_size / self._side(width, height)
        return max(1, round(width * scale)), max(1, round(height * scale))

    def _resized(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        target = self._target(width, height)
        if target == (width, height):
            return image
        downscale = self._side(width, height) > self._images.image_size
        if downscale and self._own_area:
            return resize_area(image, *target)
        interpolation = self._downscale if downscale else self._upscale
        return cv2.resize(image, target, interpolation=interpolation)

    def _shaped(self, image: np.ndarray) -> np.ndarray:
        """The crop or the border of the resize mode."""
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
