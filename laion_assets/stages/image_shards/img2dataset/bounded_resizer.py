"""img2dataset's Resizer, with the limit on the pixels that a file's header declares."""

import io
from typing import Any

from laion_assets.reasons import Reason, Rejection
from laion_assets.stages.image_shards.decoding.image_header import ImageHeader, read_header
from laion_assets.stages.image_shards.img2dataset.reasons import make_resize_message
from laion_assets.stages.image_shards.settings import ImageSettings

Resized = tuple[bytes | None, int | None, int | None, int | None, int | None, str | None]
"""(encoded image, width, height, original width, original height, error): the result of img2dataset's Resizer."""


class BoundedResizer:
    """A resizer for img2dataset's Downloader. `images` are the settings of the stage."""

    def __init__(self, images: ImageSettings) -> None:
        from img2dataset.resizer import Resizer

        self._max_pixels = images.max_pixels
        self._resizer = Resizer(
            image_size=images.image_size,
            resize_mode=images.resize_mode,
            resize_only_if_bigger=images.resize_only_if_bigger,
            upscale_interpolation=images.upscale_interpolation,
            downscale_interpolation=images.downscale_interpolation,
            encode_quality=images.encode_quality,
            encode_format=images.encode_format,
            skip_reencode=images.skip_reencode,
            disable_all_reencoding=images.disable_all_reencoding,
            min_image_size=images.min_image_size,
            max_image_area=images.max_image_area,
            max_aspect_ratio=images.max_aspect_ratio,
        )

    def __call__(self, img_stream: io.BytesIO, blurring_bbox_list: Any = None) -> Resized:
        """Return img2dataset's result, with an error that starts with our reason."""
        header, refused = _read_header(img_stream.getvalue())
        if header is not None and header.width * header.height > self._max_pixels:
            text = f"{header.width} x {header.height} is more than {self._max_pixels} pixels"
            return None, None, None, None, None, f"{Reason.TOO_MANY_PIXELS.value}: {text}"
        *resized, error = self._resizer(img_stream, blurring_bbox_list)
        image, width, height, original_width, original_height = resized
        message = None if error is None else make_resize_message(error, refused)
        return image, width, height, original_width, original_height, message


def _read_header(data: bytes) -> tuple[ImageHeader | None, Rejection | None]:
    """Return the header, or our refusal of it. img2dataset decodes more formats than our engine."""
    try:
        return read_header(data), None
    except Rejection as rejection:
        return None, rejection
