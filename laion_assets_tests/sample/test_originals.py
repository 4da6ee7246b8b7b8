"""Every format decodes to the drawn image and encodes to the same bytes again."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from laion_assets.sample.originals import FORMATS, ONE_PIXEL_GIF, bomb_png
from laion_assets.sample.scenes import draw_scene, render

PIXELS = render(draw_scene(np.random.default_rng(0)), 200, 150)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_decodes_to_the_image(form: str) -> None:
    body = FORMATS[form].encode(PIXELS)
    assert body == FORMATS[form].encode(PIXELS.copy()), "the same bytes again"
    with Image.open(io.BytesIO(body)) as image:
        assert Image.MIME[image.format] == FORMATS[form].media_type
        upright = ImageOps.exif_transpose(image)
        assert upright.size == (200, 150)
        shown = np.asarray(upright.convert("RGBA").convert("RGB"), float)
    wanted = PIXELS.astype(float)
    if form == "grey_jpeg":
        wanted = np.repeat(wanted @ np.array([0.299, 0.587, 0.114]), 3).reshape(150, 200, 3)
    assert np.abs(shown - wanted)[30:, 30:].mean() < 12


def test_the_deep_png_has_sixteen_bits() -> None:
    samples = cv2.imdecode(np.frombuffer(FORMATS["deep_png"].encode(PIXELS), np.uint8), cv2.IMREAD_UNCHANGED)
    assert samples.dtype == np.uint16
    assert np.array_equal(samples[..., ::-1] // 257, PIXELS)


def test_exif_has_orientation_and_location() -> None:
    with Image.open(io.BytesIO(FORMATS["exif_rotated"].encode(PIXELS))) as rotated:
        assert rotated.size == (150, 200)
        assert rotated.getexif()[0x0112] == 6
    with Image.open(io.BytesIO(FORMATS["exif_located"].encode(PIXELS))) as located:
        assert located.getexif().get_ifd(0x8825)[1] == "N"


def test_the_palette_has_a_transparent_corner() -> None:
    with Image.open(io.BytesIO(FORMATS["palette_png"].encode(PIXELS))) as image:
        assert image.mode == "P"
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
    assert alpha[0, 0] == 0
    assert alpha[-1, -1] == 255


def test_decompression_bomb_has_few_bytes_and_many_pixels() -> None:
    body = bomb_png()
    assert len(body) < 200_000
    assert int.from_bytes(body[16:20], "big") * int.from_bytes(body[20:24], "big") == 30_000**2
    with Image.open(io.BytesIO(ONE_PIXEL_GIF)) as pixel:
        assert pixel.size == (1, 1)
