"""Similarity to img2dataset of JPEGs that are decoded at a smaller scale and resized by sparse products."""

import io
import statistics

import numpy as np
import pytest
from PIL import Image, ImageOps

from laion_assets.stages.image_shards.decoding.image_header import ImageHeader, read_header
from laion_assets.stages.image_shards.decoding.reencoding import Reencoder
from laion_assets.stages.image_shards.decoding.scaled_decoding import choose_denominator
from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets_tests.stages.image_shards.images import encode, pixels, psnr, scene, stock_tuple
from laion_assets_tests.stages.image_shards.photographs import Photograph

LARGE = [
    Photograph(1280, 960, 1),
    Photograph(1301, 867, 2, "444"),
    Photograph(1333, 1777, 3, progressive=True),
    Photograph(1601, 1067, 4, quality=75),
    Photograph(1400, 1400, 5, "444"),
    Photograph(2101, 1401, 6, quality=95),
]
"""Decoded at half size."""
OTHERS = [
    Photograph(1279, 700, 1),
    Photograph(640, 431, 2, "444"),
    Photograph(500, 333, 3),
    Photograph(1400, 900, 4, "422"),
]
"""Decoded at full size."""
EXACT = [Photograph(512, 384, 1), Photograph(256, 171, 2), Photograph(200, 90, 3)]
"""Resized by an integer factor, enlarged, or not resized."""


def ours(data, **settings):
    return stock_tuple(Reencoder(ImageSettings(**settings))(data))


def stock(data, mode="border", **options):
    from img2dataset.resizer import Resizer

    return Resizer(256, mode, False, **options)(io.BytesIO(data))


def likeness(photo, mode="border"):
    """PSNR in dB of the pixels before the encoder, and of the files."""
    data = photo.jpeg()
    wanted, found = stock(data, mode), ours(data, resize_mode=mode)
    assert found[1:] == wanted[1:]
    lossless = pixels(stock(data, mode, encode_format="png", encode_quality=1)[0])
    image = Reencoder(ImageSettings(resize_mode=mode)).resize(data).pixels
    return psnr(image[..., ::-1].astype(np.int32), lossless), psnr(pixels(found[0]), pixels(wanted[0]))


@pytest.mark.parametrize("mode", ["border", "keep_ratio_largest"])
def test_photos_decoded_at_half_size_have_a_psnr_of_38_db_against_img2dataset(mode):
    of_pixels, of_files = zip(*(likeness(photo, mode) for photo in LARGE), strict=True)
    assert min(of_files) >= 38
    assert statistics.median(of_pixels) >= 45
    assert max(of_pixels) < 70, "no image was decoded at full size"


@pytest.mark.parametrize("photo", OTHERS, ids=str)
def test_photos_decoded_at_full_size_differ_from_img2dataset_only_by_rounding(photo):
    of_pixels, of_files = likeness(photo)
    assert of_pixels >= 85
    assert of_files >= 50


@pytest.mark.parametrize("photo", EXACT, ids=str)
def test_bytes_equal_img2dataset_if_the_order_of_sums_does_not_matter(photo):
    assert ours(photo.jpeg()) == stock(photo.jpeg())


@pytest.mark.parametrize("mode", ["keep_ratio", "center_crop"])
def test_the_margin_is_measured_on_the_side_that_is_resized(mode):
    assert likeness(Photograph(1600, 1000, 1), mode)[0] >= 85
    assert 38 <= likeness(Photograph(1900, 1287, 2), mode)[1] < 60


@pytest.mark.parametrize("photo", [*LARGE, *OTHERS, *EXACT], ids=str)
def test_exact_pixels_produce_the_bytes_of_img2dataset(photo):
    assert ours(photo.jpeg(), exact_pixels=True) == stock(photo.jpeg())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_scaled_photo_is_upright_and_has_its_original_size(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = encode(Image.open(io.BytesIO(Photograph(1301, 867, 2).jpeg())), "JPEG", exif=exif, quality=95)
    turned = ours(stored)
    upright = ours(encode(ImageOps.exif_transpose(Image.open(io.BytesIO(stored))), "PNG"))
    assert turned[1:] == upright[1:]
    assert psnr(pixels(turned[0]), pixels(upright[0])) > 35


def test_sampling_factors_of_a_jpeg_are_read():
    for photo, sampling in (
        (Photograph(64, 48, 1), ((2, 2), (1, 1), (1, 1))),
        (Photograph(64, 48, 1, "444"), ((1, 1), (1, 1), (1, 1))),
        (Photograph(64, 48, 1, "422", progressive=True), ((2, 1), (1, 1), (1, 1))),
        (Photograph(64, 48, 1, "grey"), ((1, 1),)),
    ):
        assert read_header(photo.jpeg()).sampling == sampling
    assert len(read_header(encode(scene(64, 48).convert("CMYK"), "JPEG")).sampling) == 4


def divisor(width, height, sampling=((2, 2), (1, 1), (1, 1))):
    scale = 256 / max(width, height)
    header = ImageHeader("JPEG", width, height, sampling=sampling)
    return choose_denominator(header, max(1, round(width * scale)), max(1, round(height * scale)))


def test_the_denominator_depends_on_size_and_sampling():
    assert [divisor(side, side) for side in (256, 1279, 1280, 2048, 4095, 4096, 16384)] == [1, 1, 2, 2, 2, 4, 8]
    assert divisor(2048, 1536, ((2, 1), (1, 1), (1, 1))) == 1
    assert divisor(2048, 1536, ((1, 1),) * 4) == 1
    assert divisor(2048, 1536, ()) == 1
