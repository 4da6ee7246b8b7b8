"""Images in every format become the right RGB pixels or have a reason. Photos have the same bytes as in img2dataset."""

import io
import json
import resource

import numpy as np
import pytest
from PIL import Image

from laion_assets.reasons import Reason, Rejection
from laion_assets.stages.image_shards.decoding.exif import exif_json, technical
from laion_assets.stages.image_shards.decoding.image_header import read_header, read_orientation
from laion_assets.stages.image_shards.decoding.reencoding import Reencoder
from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets_tests.stages.image_shards.images import (
    encode,
    jpeg,
    pixels,
    png16,
    png_bomb,
    psnr,
    scene,
    stock_tuple,
)

SIDE = 256
PHOTO = scene(400, 300, 5)
ALPHA = Image.fromarray(np.tile(np.linspace(0, 255, 400).astype(np.uint8), (300, 1)))
RGBA = PHOTO.copy()
RGBA.putalpha(ALPHA)


def resized(data, **settings):
    return Reencoder(ImageSettings(**settings))(data)


def reason_of(data, **settings):
    image = resized(data, **settings)
    assert (image.content is None) == (image.reason is not Reason.SUCCESS)
    return image.reason


def upright(image):
    """Return the expected output: the image on white, resized to the border layout by Pillow's box filter."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    image = image.convert("RGB")
    scale = SIDE / max(image.size)
    size = round(image.width * scale), round(image.height * scale)
    canvas = Image.new("RGB", (SIDE, SIDE), "white")
    canvas.paste(image.resize(size, Image.Resampling.BOX), ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return np.asarray(canvas).astype(np.int32)


LINE_ART = PHOTO.convert("1", dither=Image.Dither.NONE)
QUANTISED = PHOTO.quantize(64)
FORMATS = {
    "jpeg": (jpeg(400, 300, 5), PHOTO),
    "progressive": (jpeg(400, 300, 5, progressive=True), PHOTO),
    "jpeg grey": (encode(PHOTO.convert("L"), "JPEG", quality=95), PHOTO.convert("L")),
    "jpeg cmyk": (encode(PHOTO.convert("CMYK"), "JPEG", quality=95), PHOTO),
    "png": (encode(PHOTO, "PNG"), PHOTO),
    "png grey": (encode(PHOTO.convert("L"), "PNG"), PHOTO.convert("L")),
    "png 1 bit": (encode(LINE_ART, "PNG"), LINE_ART),
    "png rgba": (encode(RGBA, "PNG"), RGBA),
    "png grey alpha": (encode(RGBA.convert("LA"), "PNG"), RGBA.convert("LA")),
    "png palette": (encode(QUANTISED, "PNG"), QUANTISED),
    "png palette alpha": (encode(QUANTISED, "PNG", transparency=3), None),
    "png 16 bit": (png16(PHOTO), PHOTO),
    "png animated": (encode(PHOTO, "PNG", save_all=True, append_images=[PHOTO.rotate(180)]), PHOTO),
    "webp": (encode(PHOTO, "WEBP", quality=95), PHOTO),
    "webp lossless alpha": (encode(RGBA, "WEBP", lossless=True, exact=True), RGBA),
    "webp animated": (encode(PHOTO, "WEBP", save_all=True, append_images=[PHOTO.rotate(180)], lossless=True), PHOTO),
    "gif": (encode(QUANTISED, "GIF"), QUANTISED),
    "gif animated": (encode(QUANTISED, "GIF", save_all=True, append_images=[QUANTISED.rotate(180)]), QUANTISED),
    "bmp": (encode(PHOTO, "BMP"), PHOTO),
    "bmp palette": (encode(QUANTISED, "BMP"), QUANTISED),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_becomes_the_right_pixels(name):
    data, wanted = FORMATS[name]
    image = resized(data)
    assert stock_tuple(image)[1:] == (SIDE, SIDE, 400, 300, None)
    output = Image.open(io.BytesIO(image.content))
    assert (output.format, output.mode, output.size) == ("JPEG", "RGB", (SIDE, SIDE))
    assert psnr(pixels(image.content), upright(wanted or Image.open(io.BytesIO(data)))) > (
        24 if "1 bit" in name else 33
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_orientation_is_applied(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
    stored = PHOTO if orientation == 1 else PHOTO.transpose({4: 2, 2: 4}.get(turns[orientation], turns[orientation]))
    data = encode(stored, kind, exif=exif, quality=95)
    assert read_header(data).orientation == orientation
    image = resized(data)
    assert (image.original_width, image.original_height) == (400, 300)
    assert psnr(pixels(image.content), upright(PHOTO)) > 33


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<!DOCTYPE html><html><body>Not found</body></html>", Reason.NOT_AN_IMAGE),
        (b"", Reason.NOT_AN_IMAGE),
        (b"\0" * 100, Reason.NOT_AN_IMAGE),
        (b"{}", Reason.NOT_AN_IMAGE),
        (b'<?xml version="1.0"?>\n<!-- x -->\n<svg xmlns="http://www.w3.org/2000/svg"/>', Reason.UNSUPPORTED_FORMAT),
        (b"\xef\xbb\xbf <svg/>", Reason.UNSUPPORTED_FORMAT),
        (encode(PHOTO, "TIFF"), Reason.UNSUPPORTED_FORMAT),
        (b"%PDF-1.7\n", Reason.UNSUPPORTED_FORMAT),
        (b"8BPS\0\1", Reason.UNSUPPORTED_FORMAT),
        (b"%!PS-Adobe-3.0 EPSF-3.0", Reason.UNSUPPORTED_FORMAT),
        (encode(PHOTO, "PPM"), Reason.UNSUPPORTED_FORMAT),
        (encode(PHOTO, "ICO"), Reason.UNSUPPORTED_FORMAT),
        (encode(PHOTO, "JPEG2000"), Reason.UNSUPPORTED_FORMAT),
        (b"\0\0\0\x1cftypavif\0\0\0\0", Reason.UNSUPPORTED_FORMAT),
        (encode(PHOTO.resize((1, 1)), "GIF"), Reason.IMAGE_TOO_SMALL),
        (encode(PHOTO.resize((3, 50)), "PNG"), Reason.IMAGE_TOO_SMALL),
        (encode(PHOTO.resize((4000, 5)), "PNG"), Reason.ASPECT_RATIO),
        (encode(PHOTO.resize((5, 4000)), "JPEG"), Reason.ASPECT_RATIO),
        (png_bomb(30_000, 30_000), Reason.TOO_MANY_PIXELS),
        (png_bomb(2**31 - 1, 2**31 - 1), Reason.TOO_MANY_PIXELS),
        (b"GIF89a\xff\xff\xff\xff\0\0\0", Reason.TOO_MANY_PIXELS),
        (b"\xff\xd8\xff\xe0", Reason.UNDECODABLE),
        (b"\xff\xd8\xff" + b"\0" * 1000, Reason.UNDECODABLE),
        (b"\xff\xd8\xff" + b"\xff" * 1000, Reason.UNDECODABLE),
        (b"\x89PNG\r\n\x1a\n", Reason.UNDECODABLE),
        (png_bomb(400, 300)[:60], Reason.UNDECODABLE),
        (b"BM" + b"\0" * 40, Reason.IMAGE_TOO_SMALL),
        (b"RIFF\0\0\0\0WEBPVP8X", Reason.UNDECODABLE),
        (encode(QUANTISED, "GIF")[:1000], Reason.UNDECODABLE),
    ],
    ids=str,
)
def test_other_files_have_a_reason(data, reason):
    assert reason_of(data) is reason


@pytest.mark.parametrize("name", ["jpeg", "progressive", "png", "webp", "bmp", "gif"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_undecodable(name, kept):
    data = FORMATS[name][0]
    assert reason_of(data[: int(len(data) * kept)]) is Reason.UNDECODABLE


def test_damaged_files_never_raise_and_have_the_same_result_twice():
    random = np.random.default_rng(3)
    for name in ("jpeg", "png rgba", "webp", "gif", "bmp", "png 16 bit"):
        for _ in range(25):
            data = bytearray(FORMATS[name][0])
            for place in random.integers(0, min(len(data), 4000), 12):
                data[place] = random.integers(0, 256)
            assert resized(bytes(data)) == resized(bytes(data))


def test_huge_sizes_in_a_header_use_no_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for data in (png_bomb(30_000, 30_000), b"GIF89a\xff\xff\xff\xff\0\0\0"):
        reason_of(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


@pytest.mark.parametrize("mode", ["border", "keep_ratio", "center_crop", "keep_ratio_largest", "no"])
def test_photos_have_the_same_bytes_as_in_img2dataset(mode):
    from img2dataset.resizer import Resizer

    settings = ImageSettings(resize_mode=mode, exact_pixels=True)
    ours, stock = Reencoder(settings), Resizer(SIDE, mode, False)
    sizes = [(256, 256), (256, 100), (512, 512), (33, 32), (257, 255), (640, 480), (60, 90), (301, 700), (1600, 1200)]
    for seed, (width, height) in enumerate(sizes):
        for data in (jpeg(width, height, seed), encode(scene(width, height, seed), "PNG")):
            assert stock_tuple(ours(data)) == stock(io.BytesIO(data))


def test_exif_keeps_technical_tags_only():
    tags = {"Image Orientation": "6", "GPS GPSLatitude": "[1]", "Image Make": "X", "Image Artist": "N"}
    assert technical(tags) == {"Image Orientation": "6"}
    assert technical({"Image Orientation": "x" * 99}) == {}


def test_exif_is_from_exifread_and_null_if_it_fails(monkeypatch):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Camera Maker", 1
    for kind in ("JPEG", "WEBP"):
        data = encode(PHOTO, kind, exif=exif)
        assert exif_json(data, personal=False) == '{"Image Orientation": "Horizontal (normal)"}'
        assert json.loads(exif_json(data, personal=True))["Image Make"] == "Camera Maker"
        assert exif_json(encode(PHOTO, kind), personal=True) == "{}"
    assert exif_json(encode(PHOTO, "PNG"), personal=True) == "{}"
    monkeypatch.setattr("exifread.process_file", lambda *arguments, **options: 1 / 0)
    assert exif_json(data, personal=True) is None


@pytest.mark.parametrize("exif", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"XX*\0\x08\0\0\0", b"MM\0*\0\0\0\x08\xff\xff"])
def test_damaged_exif_has_no_orientation(exif):
    assert read_orientation(exif) == 1


def test_headers_agree_with_pillow():
    for name, (data, _) in FORMATS.items():
        image, header = Image.open(io.BytesIO(data)), read_header(data)
        assert (header.format, header.width, header.height) == (image.format, *image.size), name
    with pytest.raises(Rejection):
        read_header(b"BM")
