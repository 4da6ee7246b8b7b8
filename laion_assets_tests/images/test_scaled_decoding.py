"""Large JPEGs are decoded at a smaller scale; what comes out is img2dataset's to 45 dB, the rest to the byte."""

import io
import statistics

import numpy as np
import pytest
from PIL import Image, ImageOps

from laion_assets.images.image_header import ImageHeader, read_header
from laion_assets.images.scaled_decoding import MAX_MISFIT, Reduction, grid, reduction
from laion_assets.images.settings import ImageSettings
from laion_assets_tests.images.photographs import Photograph
from laion_assets_tests.images.pictures import encode, pixels, psnr, scene

reencoding = pytest.importorskip("laion_assets.images.reencoding")
LARGE = [
    Photograph(1024, 768, 1),
    Photograph(1101, 733, 2, "444"),
    Photograph(1333, 1777, 3, progressive=True),
    Photograph(1601, 1067, 4, quality=75),
    Photograph(1200, 1200, 5, "444"),
    Photograph(2101, 1401, 6, quality=95),
]
SMALL = [
    Photograph(1023, 700, 1),
    Photograph(640, 431, 2, "444"),
    Photograph(200, 90, 3),
    Photograph(1400, 900, 4, "422"),
]


def ours(data, **settings):
    return reencoding.Reencoder(ImageSettings(**settings))(data)


def stock(data, mode="border", **options):
    from img2dataset.resizer import Resizer

    return Resizer(256, mode, False, **options)(io.BytesIO(data))


@pytest.mark.parametrize("mode", ["border", "keep_ratio_largest"])
def test_large_photos_are_img2datasets_to_38_db_each_and_45_db_in_the_median(mode):
    of_pixels, of_files = [], []
    for photo in LARGE:
        data = photo.jpeg()
        wanted = stock(data, mode)
        found = ours(data, resize_mode=mode)
        assert found[1:] == wanted[1:]
        of_files.append(psnr(pixels(found[0]), pixels(wanted[0])))
        lossless = pixels(stock(data, mode, encode_format="png", encode_quality=1)[0])
        image = reencoding.Reencoder(ImageSettings(resize_mode=mode)).picture(data).pixels
        of_pixels.append(psnr(image[..., ::-1].astype(np.int32), lossless))
    assert min(of_files) >= 38
    assert min(of_pixels) >= 38
    assert statistics.median(of_pixels) >= 45
    assert max(of_pixels) < 70, "no picture took the other path"


@pytest.mark.parametrize("mode", ["keep_ratio", "center_crop"])
def test_the_margin_is_that_of_the_side_that_is_resized(mode):
    wide = Photograph(1600, 1000, 1).jpeg()
    assert ours(wide, resize_mode=mode) == stock(wide, mode)
    larger = Photograph(1500, 1027, 2).jpeg()
    found, wanted = ours(larger, resize_mode=mode), stock(larger, mode)
    assert found[1:] == wanted[1:]
    assert psnr(pixels(found[0]), pixels(wanted[0])) >= 38


@pytest.mark.parametrize("photo", SMALL, ids=str)
def test_the_path_of_other_photos_is_img2datasets_to_the_byte(photo):
    assert ours(photo.jpeg()) == stock(photo.jpeg())


@pytest.mark.parametrize("photo", LARGE, ids=str)
def test_without_the_setting_every_photo_is_img2datasets_to_the_byte(photo):
    assert ours(photo.jpeg(), scaled_decoding=False) == stock(photo.jpeg())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_scaled_photo_is_upright_and_keeps_the_size_it_had(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = encode(Image.open(io.BytesIO(Photograph(1101, 733, 2).jpeg())), "JPEG", exif=exif, quality=95)
    turned = ours(stored)
    upright = ours(encode(ImageOps.exif_transpose(Image.open(io.BytesIO(stored))), "PNG"))
    assert turned[1:] == upright[1:]
    assert psnr(pixels(turned[0]), pixels(upright[0])) > 35


def test_what_is_read_of_a_jpegs_sampling():
    for photo, sampling in (
        (Photograph(64, 48, 1), ((2, 2), (1, 1), (1, 1))),
        (Photograph(64, 48, 1, "444"), ((1, 1), (1, 1), (1, 1))),
        (Photograph(64, 48, 1, "422", progressive=True), ((2, 1), (1, 1), (1, 1))),
        (Photograph(64, 48, 1, "grey"), ((1, 1),)),
    ):
        assert read_header(photo.jpeg()).sampling == sampling
    assert len(read_header(encode(scene(64, 48).convert("CMYK"), "JPEG")).sampling) == 4


def denominator(width, height, sampling=((2, 2), (1, 1), (1, 1))):
    scale = 256 / max(width, height)
    header = ImageHeader("JPEG", width, height, sampling=sampling)
    found = reduction(header, max(1, round(width * scale)), max(1, round(height * scale)))
    return found.denominator if isinstance(found, Reduction) else 1


def test_how_much_is_left_out():
    assert [denominator(side, side) for side in (256, 1022, 1024, 2048, 4094, 4096, 16384)] == [1, 1, 2, 2, 2, 4, 8]
    assert denominator(2048, 1536, ((2, 1), (1, 1), (1, 1))) == 1
    assert denominator(2048, 1536, ((1, 1),) * 4) == 1
    assert denominator(2048, 1536, ()) == 1
    assert denominator(2049, 2049) == 1, "no grid fits: 4.002 pixels a pixel and half a pixel to spare"


def test_a_grid_covers_the_picture_and_keeps_its_scale():
    random = np.random.default_rng(0)
    fitting = 0
    for _ in range(2_000):
        size, kept = int(random.integers(1_000, 9_000)), int(random.integers(100, 257))
        scale = int(2 ** random.integers(1, 4))
        found = grid(size, scale, kept)
        if found is not None:
            fitting += 1
            assert found.kept == kept <= found.made
            assert found.source >= -(-size // scale)
            shift = kept * (found.source / found.made - size / scale / kept)
            assert abs(shift) <= MAX_MISFIT
    assert fitting > 1_900
