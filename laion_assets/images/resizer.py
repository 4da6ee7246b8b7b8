"""img2dataset's resizer behind a look at the header, with the right pixels for the formats it gets wrong.

On 8-bit RGB photos without an orientation tag the output is byte for byte what img2dataset 1.47 writes: the same
OpenCV filters and roundings, without building two albumentations transforms for each picture. Worker-side: imports
img2dataset and OpenCV.
"""

import io
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from img2dataset.resizer import ResizeMode, Resizer

from laion_assets.images.image_header import ImageHeader, read_header
from laion_assets.images.reasons import Reason, Rejection

if TYPE_CHECKING:
    from laion_assets.images.settings import ImageSettings

ENCODE_FORMAT = "jpg"
Resized = tuple[bytes | None, int | None, int | None, int | None, int | None, str | None]
"""(encoded picture, width, height, original width, original height, error): what img2dataset's Downloader expects."""

_BAND_ROWS = 64
"""Rows blended at once: in float64 a whole picture of 100 million pixels would take 2.4 GB."""

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
        cv2.setNumThreads(1)

    def __call__(self, img_stream: io.BytesIO, blurring_bbox_list: Any = None) -> Resized:
        """Decode, resize and encode one picture. Original width and height are those of the upright picture."""
        try:
            img_stream.seek(0)
            image = self.decode(img_stream.read())
            original_height, original_width = image.shape[:2]
            image = self.resize(image)
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

    def decode(self, data: bytes) -> np.ndarray:
        """The upright picture, (H, W, 3) uint8, BGR; transparency lies on white. Raises Rejection."""
        header = read_header(data)
        self._check_size(header.width, header.height)
        image = self._decode_gif(data) if header.format == "GIF" else _decode_cv2(data)
        if image.dtype == np.uint16:
            image = cv2.convertScaleAbs(image, alpha=1 / 257)
        if image.dtype != np.uint8:
            raise Rejection(Reason.UNDECODABLE, f"samples of type {image.dtype}")
        if image.ndim == 2:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        elif image.shape[2] == 4:
            image = _on_white(image)
        self._check_size(image.shape[1], image.shape[0])
        return _upright(image, header)

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self.max_image_area:
            raise Rejection(Reason.TOO_MANY_PIXELS, f"{width} x {height} is more than {self.max_image_area} pixels")
        if min(width, height) < max(self.min_image_size, 1):
            raise Rejection(Reason.IMAGE_TOO_SMALL, f"{width} x {height}, and {self.min_image_size} is the least side")
        if max(width, height) > self.max_aspect_ratio * min(width, height):
            raise Rejection(Reason.ASPECT_RATIO, f"{width} x {height} is longer than {self.max_aspect_ratio:g} to 1")

    def _decode_gif(self, data: bytes) -> np.ndarray:
        """The first frame; this OpenCV has no GIF decoder."""
        from PIL import Image

        try:
            with Image.open(io.BytesIO(data), formats=["GIF"]) as gif:
                self._check_size(*gif.size)  # a frame may be larger than the screen that the header declares
                frame = np.asarray(gif.convert("RGBA"))
        except Rejection:
            raise
        except Exception as error:
            raise Rejection(Reason.UNDECODABLE, "the GIF decoder refused it") from error
        return cv2.cvtColor(frame, cv2.COLOR_RGBA2BGRA)

    def resize(self, image: np.ndarray) -> np.ndarray:
        """The picture in the size and shape of the resize mode, as img2dataset 1.47 computes it."""
        height, width = image.shape[:2]
        by_shorter = self.resize_mode in (ResizeMode.keep_ratio, ResizeMode.center_crop)
        side = min(width, height) if by_shorter else max(width, height)
        if self.resize_mode is ResizeMode.no or (self.resize_only_if_bigger and side <= self.image_size):
            return image
        scale = self.image_size / side
        shape = (max(1, round(height * scale)), max(1, round(width * scale)))
        if shape != (height, width):
            interpolation = self.downscale_interpolation if side > self.image_size else self.upscale_interpolation
            image = cv2.resize(image, (shape[1], shape[0]), interpolation=interpolation)
        if self.resize_mode is ResizeMode.center_crop:
            top, left = (shape[0] - self.image_size) // 2, (shape[1] - self.image_size) // 2
            return image[top : top + self.image_size, left : left + self.image_size]
        if self.resize_mode is ResizeMode.border:
            high, wide = self.image_size - shape[0], self.image_size - shape[1]
            top, left = high // 2, wide // 2
            white = (255, 255, 255)
            return cv2.copyMakeBorder(image, top, high - top, left, wide - left, cv2.BORDER_CONSTANT, value=white)
        return image


def _decode_cv2(data: bytes) -> np.ndarray:
    """What OpenCV makes of a JPEG, PNG, WebP or BMP. A file that is cut short is refused, by its decoders' own rule;
    a damaged JPEG whose scans are all there decodes as every browser shows it."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise Rejection(Reason.UNDECODABLE, "the decoder refused it") from error
    if image is None:
        raise Rejection(Reason.UNDECODABLE, "the decoder refused it")
    return image


def _on_white(image: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 over a white background, with img2dataset's roundings, a band of rows at a time."""
    flat = np.ascontiguousarray(image[..., :3])
    for top in range(0, len(image), _BAND_ROWS):
        alpha = image[top : top + _BAND_ROWS, :, 3, np.newaxis]
        if alpha.min() < 255:
            blended = alpha / 255 * flat[top : top + _BAND_ROWS] + 255 - alpha
            flat[top : top + _BAND_ROWS] = np.rint(blended.clip(min=0, max=255))
    return flat


def _upright(image: np.ndarray, header: ImageHeader) -> np.ndarray:
    turn = _UPRIGHT.get(header.orientation)
    return image if turn is None else np.ascontiguousarray(turn(image))
