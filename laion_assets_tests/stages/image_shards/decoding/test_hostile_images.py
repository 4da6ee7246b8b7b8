"""Hostile files: decompression bombs, truncated files, polyglots and personal data. Each has a stable reason."""

import io
import resource
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from laion_assets.reasons import Reason
from laion_assets.stages.image_shards.decoding.reencoding import Reencoder
from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets_tests.stages.image_shards.images import encode, jpeg, pixels, png_bomb, psnr, scene, stock_tuple

PHOTO = scene(60, 40, 5)


def reencoded(data, **settings):
    return Reencoder(ImageSettings(**settings))(data)


def reason_of(data):
    image = reencoded(data)
    assert (image.content is None) == (image.reason is not Reason.SUCCESS)
    return image.reason


def jpeg_bomb(width, height):
    data = bytearray(encode(PHOTO, "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp_bomb(width, height):
    data = bytearray(encode(PHOTO, "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def webp_bomb(width, height):
    """An extended WebP. The canvas is its size."""
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + canvas + encode(PHOTO, "WEBP")[12:]
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


BOMBS = {
    "png": png_bomb(100_000, 100_000),
    "jpeg": jpeg_bomb(65_000, 65_000),
    "bmp": bmp_bomb(2**31 - 1, 1_000_000),
    "bmp upside down": bmp_bomb(100_000, -100_000),
    "webp": webp_bomb(16_384, 16_384),
    "gif": b"GIF89a\xff\xff\xff\xff\0\0\0",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_decompression_bomb_is_refused_by_its_header(name):
    assert len(BOMBS[name]) < 20_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert reason_of(BOMBS[name]) is Reason.TOO_MANY_PIXELS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000


WHOLE = {
    "jpeg": encode(PHOTO, "JPEG"),
    "progressive": encode(PHOTO, "JPEG", progressive=True),
    "png": encode(PHOTO, "PNG"),
    "webp": encode(PHOTO, "WEBP"),
    "webp lossless": encode(PHOTO, "WEBP", lossless=True),
    "gif": encode(PHOTO.quantize(16), "GIF"),
    "bmp": encode(PHOTO, "BMP"),
}
TRUNCATED = {Reason.UNDECODABLE, Reason.NOT_AN_IMAGE}


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_truncated_at_any_byte_is_refused_or_complete(name):
    """Only an end without pixels may be missing: a JPEG's last marker, a PNG's IEND, a GIF's trailer."""
    data = WHOLE[name]
    whole = reencoded(data)
    assert whole.reason is Reason.SUCCESS
    reencode = Reencoder(ImageSettings())
    for kept in (*range(0, len(data), max(1, len(data) // 150)), *range(len(data) - 16, len(data))):
        found = reencode(data[:kept])
        if found.content is None:
            assert found.reason in TRUNCATED, kept
        else:
            assert kept > len(data) - 16
            assert found == whole, kept


def test_only_the_image_of_a_polyglot_file_is_kept():
    script = b"=1;alert(document.cookie);/*<script>steal()</script>*/"
    whole = reencoded(WHOLE["jpeg"])
    assert reencoded(WHOLE["jpeg"] + b"PK\x03\x04" + script) == whole, "a ZIP behind a JPEG"
    commented = WHOLE["jpeg"][:2] + b"\xff\xfe" + struct.pack(">H", 2 + len(script)) + script + WHOLE["jpeg"][2:]
    assert reencoded(commented) == whole, "a script in a JPEG's comment"
    assert reencoded(WHOLE["gif"] + script) == reencoded(WHOLE["gif"]), "a script behind a GIF"
    assert reencoded(WHOLE["png"] + b"%PDF-1.7") == reencoded(WHOLE["png"]), "a PDF behind a PNG"
    assert reason_of(b"GIF89a/*" + script + b"*/") in {*TRUNCATED, Reason.TOO_MANY_PIXELS, Reason.ASPECT_RATIO}
    assert reason_of(b"%PDF-1.7\n" + WHOLE["jpeg"]) is Reason.UNSUPPORTED_FORMAT


FOREIGN = {
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>',
    "PDF": b"%PDF-1.7\n",
    "PSD": b"8BPS\0\1" + bytes(40),
    "TIFF": encode(PHOTO, "TIFF"),
    "EPS": encode(PHOTO, "EPS"),
    "AVIF": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1",
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "JPEG XL": b"\xff\x0a" + bytes(40),
    "JPEG XL, boxed": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20),
    "ICO": encode(PHOTO, "ICO"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_formats_are_refused_before_a_decoder_runs(name, monkeypatch):
    def never(*arguments, **options):
        pytest.fail("a decoder ran")

    monkeypatch.setattr("cv2.imdecode", never)
    monkeypatch.setattr("PIL.Image.open", never)
    assert reason_of(FOREIGN[name]) is Reason.UNSUPPORTED_FORMAT


def adobe_marker(data):
    """(start of the segment, its end) in a JPEG."""
    start = data.index(b"Adobe") - 4
    return start, start + 2 + struct.unpack_from(">H", data, start + 2)[0]


@pytest.mark.parametrize("kind", ["adobe", "no marker", "ycck"])
def test_cmyk_becomes_the_colours_of_pillow(kind):
    data = encode(scene(256, 200, 5).convert("CMYK"), "JPEG", quality=95)
    start, end = adobe_marker(data)
    if kind == "no marker":
        data = data[:start] + data[end:]
    if kind == "ycck":
        data = data[: end - 1] + b"\2" + data[end:]
    seen = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(np.int32)
    assert psnr(pixels(reencoded(data, resize_mode="no").content), seen) > 38


def test_a_colour_profile_is_ignored_as_in_img2dataset():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert reencoded(encode(PHOTO, "JPEG", icc_profile=profile)) == reencoded(encode(PHOTO, "JPEG"))


def test_location_and_device_are_not_in_the_image():
    exif = Image.Exif()
    exif[0x010F], exif[0x013B] = "SECRET-MAKER", "SECRET-ARTIST"
    exif.get_ifd(0x8825)[29] = "SECRET-DAY"
    for kind in ("JPEG", "PNG", "WEBP"):
        data = encode(PHOTO, kind, exif=exif, quality=90)
        assert b"SECRET" in data
        for target, quality in (("jpg", 95), ("png", 6), ("webp", 95)):
            content = reencoded(data, encode_format=target, encode_quality=quality).content
            assert not any(mark in content for mark in (b"SECRET", b"Exif", b"EXIF", b"eXIf"))


def test_tiny_and_elongated_images_are_refused():
    assert reason_of(encode(PHOTO.resize((1, 1)), "JPEG")) is Reason.IMAGE_TOO_SMALL
    assert reason_of(encode(PHOTO.resize((4, 600)), "PNG")) is Reason.ASPECT_RATIO
    assert stock_tuple(reencoded(jpeg(5, 600)))[1:] == (256, 256, 5, 600, None)
