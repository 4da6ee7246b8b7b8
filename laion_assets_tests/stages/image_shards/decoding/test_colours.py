"""Every kind of file is decoded to the colours of its pixels, with a white background where it is transparent.

The PNGs are written here pixel by pixel, so the expected pixels are known. Other formats are written and read by
Pillow. With `resize_mode` "no" and PNG as the output, no pixel is filtered or lossily compressed.
"""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from laion_assets.stages.image_shards.decoding.image_header import read_header
from laion_assets.stages.image_shards.decoding.reencoding import Reencoder
from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets_tests.stages.image_shards.images import encode, pixels, psnr, scene

EXACT = ImageSettings(resize_mode="no", encode_format="png", encode_quality=1, exact_pixels=True)
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Passes of Adam7: first column and row, and the steps between columns and rows."""
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
KINDS = [
    (colour, depth)
    for colour, depths in ((0, (1, 2, 4, 8, 16)), (2, (8, 16)), (3, (1, 2, 4, 8)), (4, (8, 16)), (6, (8, 16)))
    for depth in depths
]
HEIGHT, WIDTH = 9, 13


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(samples, depth, colour, chunks=(), interlace=False, behind=()):
    """Return a PNG of (H, W, channels) samples of `depth` bits, with `chunks` before its IDAT and `behind` after it."""
    rows = []
    for left, top, right, down in PASSES if interlace else ((0, 0, 1, 1),):
        part = samples[top::down, left::right]
        rows += [b"\0" + packed(row.ravel(), depth) for row in part if row.size]
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], depth, colour, 0, 0, int(interlace))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"".join(rows))), *behind, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def packed(values, depth):
    bits = "".join(f"{value:0{depth}b}" for value in values)
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


def random_samples(colour, depth):
    """Return samples in which the first pixel's value is repeated, and a palette."""
    random = np.random.default_rng(10 * colour + depth)
    samples = random.integers(0, 1 << depth, (HEIGHT, WIDTH, CHANNELS[colour]))
    samples[0, 0] = np.minimum(samples[0, 0], (1 << depth) - 2)  # not white, which transparency becomes
    samples[4:6, 3:9] = samples[0, 0]
    return samples, random.integers(0, 256, (1 << depth, 4))


def made(data, images=EXACT):
    image = Reencoder(images)(data)
    assert image.error_message is None
    return pixels(image.content)


def on_white(colours, alpha):
    """Blend (H, W, 3) colours and (H, W) alpha from 0 to 1 with white. Return (H, W, 3) from 0 to 255."""
    return 255 * (colours * alpha[..., np.newaxis] + 1 - alpha[..., np.newaxis])


def expected(samples, depth, colour, palette, transparent):
    """Return the pixels by the PNG specification, as float."""
    if colour == 3:
        found = palette[samples[..., 0]] / 255
        return on_white(found[..., :3], found[..., 3] if transparent else np.ones(samples.shape[:2]))
    share = samples / ((1 << depth) - 1)
    alpha = share[..., -1] if colour in (4, 6) else np.ones(samples.shape[:2])
    if transparent and colour in (0, 2):
        alpha = 1.0 - (samples == samples[0, 0]).all(axis=-1)
    colours = share[..., :3] if colour in (2, 6) else np.repeat(share[..., :1], 3, axis=-1)
    return on_white(colours, alpha)


def transparency(samples, colour, palette, transparent):
    """Return the chunks of a palette and of transparency."""
    chunks = [(b"PLTE", palette[:, :3].astype(np.uint8).tobytes())] if colour == 3 else []
    if transparent:
        key = struct.pack(f">{len(samples[0, 0])}H", *samples[0, 0].tolist())
        chunks.append((b"tRNS", palette[:, 3].astype(np.uint8).tobytes() if colour == 3 else key))
    return chunks


@pytest.mark.parametrize("interlace", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize("transparent", [False, True], ids=["opaque", "tRNS"])
@pytest.mark.parametrize(("colour", "depth"), KINDS)
def test_pngs_of_every_kind_have_the_right_colours(colour, depth, transparent, interlace):
    if transparent and colour in (4, 6):
        transparent = False  # these have an alpha channel instead
    samples, palette = random_samples(colour, depth)
    chunks = transparency(samples, colour, palette, transparent)
    found = made(png(samples, depth, colour, chunks, interlace))
    wanted = expected(samples, depth, colour, palette, transparent)
    assert np.abs(found - wanted).max() <= (1.01 if depth == 16 else 0.51)
    if depth == 8 or colour == 3:  # Pillow neither scales a transparent grey nor keeps 16 bits
        stored = Image.open(io.BytesIO(png(samples, depth, colour, chunks, interlace))).convert("RGBA")
        on_pillows_white = Image.alpha_composite(Image.new("RGBA", stored.size, "white"), stored).convert("RGB")
        assert np.abs(found - np.asarray(on_pillows_white).astype(int)).max() <= 1


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_bits_of_a_transparent_grey_above_the_depth_are_ignored(depth):
    """Only the bits of the depth count (PNG 1.2, 4.2.1.1). A chunk of wrong length or checksum is ignored."""
    samples, _ = random_samples(0, depth)
    value = int(samples[0, 0, 0])
    wanted = made(png(samples, depth, 0, [(b"tRNS", struct.pack(">H", value))]))
    high = value | (0xFFFF << depth & 0xFFFF)
    assert np.array_equal(made(png(samples, depth, 0, [(b"tRNS", struct.pack(">H", high))])), wanted)
    opaque = made(png(samples, depth, 0))
    assert np.array_equal(made(png(samples, depth, 0, [(b"tRNS", b"\0")])), opaque)
    damaged = bytearray(png(samples, depth, 0, [(b"tRNS", struct.pack(">H", value))]))
    damaged[damaged.index(b"tRNS") + 6] ^= 1
    assert np.array_equal(made(bytes(damaged)), opaque)


def test_a_transparent_png_is_re_encoded():
    images = ImageSettings(encode_format="png", encode_quality=1, skip_reencode=True, resize_mode="no")
    samples, palette = random_samples(0, 8)
    opaque = png(samples, 8, 0)
    keyed = png(samples, 8, 0, transparency(samples, 0, palette, True))
    assert Reencoder(images)(opaque).content == opaque
    assert Reencoder(images)(keyed).content != keyed


ANCILLARY = [
    (b"gAMA", struct.pack(">I", 90_910)), (b"sRGB", b"\0"), (b"pHYs", b"\0\0\0\1\0\0\0\2\0"), (b"tEXt", b"a\0b"),
    (b"zTXt", b"a\0\0" + zlib.compress(b"b" * 99)), (b"iCCP", b"a\0\0" + zlib.compress(bytes(200))),
    (b"iTXt", b"a\0\1\0\0\0" + zlib.compress(b"b" * 99)), (b"eXIf", b"II*\0\x08\0\0\0\0\0"), (b"ruSt", b"private"),
]  # fmt: skip


@pytest.mark.parametrize(("colour", "depth"), KINDS)
def test_other_chunks_of_a_png_change_no_pixel(colour, depth):
    samples, palette = random_samples(colour, depth)
    chunks = transparency(samples, colour, palette, colour in (0, 2, 3))
    bare = made(png(samples, depth, colour, chunks))
    assert np.array_equal(made(png(samples, depth, colour, [*ANCILLARY, *chunks], behind=ANCILLARY[3:])), bare)


def test_an_unknown_critical_chunk_is_still_an_error():
    samples, _ = random_samples(2, 8)
    image = Reencoder(EXACT)(png(samples, 8, 2, [(b"CgBI", b"\0\0\0\0")]))
    assert image.content is None
    assert image.error_message == "undecodable: the decoder failed"


def rgba(width=64, height=48):
    """Return an image with partial, full and no transparency."""
    array = np.asarray(scene(width, height, 8).convert("RGBA")).copy()
    array[:10, :, 3] = np.linspace(0, 255, width).astype(np.uint8)
    array[20:30, :20, 3] = 0
    return Image.fromarray(array)


def pillows_pixels(data):
    """Return the pixels of the first frame by Pillow, on white."""
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(white, image).convert("RGB")).astype(int)


def gif(frames, **options):
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:], **options)


QUANTISED = rgba().convert("RGB").quantize(16)
GREY_ALPHA = Image.merge("LA", [scene(64, 48, 3).convert("L"), rgba().getchannel("A")])
AS_PILLOW = {
    "lossless WebP with alpha": encode(rgba(), "WEBP", lossless=True, exact=True),
    "lossless WebP": encode(scene(64, 48), "WEBP", lossless=True),
    "GIF with transparency": encode(QUANTISED, "GIF", transparency=3),
    "interlaced GIF": encode(QUANTISED, "GIF", interlace=1),
    "grey GIF": encode(scene(64, 48).convert("L"), "GIF"),
    "two-colour GIF": encode(scene(64, 48).convert("1"), "GIF"),
    "animated GIF": gif([scene(64, 48, seed).quantize(16) for seed in range(3)]),
    "grey PNG with alpha": encode(GREY_ALPHA, "PNG"),
    "1-bit BMP": encode(scene(64, 48).convert("1"), "BMP"),
    "grey BMP": encode(scene(64, 48).convert("L"), "BMP"),
    "palette BMP": encode(QUANTISED, "BMP"),
    "24-bit BMP": encode(scene(63, 48), "BMP"),
    "32-bit BMP with alpha masks": encode(rgba(), "BMP"),
}


@pytest.mark.parametrize("name", AS_PILLOW)
def test_other_formats_have_the_colours_of_pillow(name):
    assert np.abs(made(AS_PILLOW[name]) - pillows_pixels(AS_PILLOW[name])).max() <= 1


def bmp(header, body, palette=b""):
    offset = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + header + palette + body


def info_header(width, height, bits, compression=0, size=0, colours=0, extra=b""):
    fields = (40 + len(extra), width, height, 1, bits, compression, size, 2835, 2835, colours, 0)
    return struct.pack("<IiiHHIIiiII", *fields) + extra


COLOURS = np.asarray(scene(12, 8, 4))
SHORTS = (
    ((COLOURS[..., 0] >> 3).astype("<u2") << 10) | ((COLOURS[..., 1] >> 3).astype("<u2") << 5) | (COLOURS[..., 2] >> 3)
)
BGRX = np.concatenate([COLOURS[..., ::-1], np.zeros((8, 12, 1), np.uint8)], axis=-1)
PALETTE = bytes(range(0, 64)) + bytes(960)
BMPS = {
    "24 bits, top row first": bmp(info_header(12, -8, 24), COLOURS[..., ::-1].tobytes()),
    "32 bits, the fourth byte not used": bmp(info_header(12, 8, 32), BGRX[::-1].tobytes()),
    "32 bits, top row first": bmp(info_header(12, -8, 32), BGRX.tobytes()),
    "16 bits, 5 for each colour": bmp(info_header(12, 8, 16), SHORTS[::-1].astype("<u2").tobytes()),
    "8 bits by run lengths": bmp(
        info_header(12, 8, 8, 1, 8 * 6, 256), b"".join(bytes((5, row, 7, row + 3, 0, 0)) for row in range(8)), PALETTE
    ),
    "4 bits": bmp(info_header(12, 8, 4, colours=16), bytes(range(64)), PALETTE[:64]),
    "the header of OS/2": b"BM"
    + struct.pack("<IHHI", 26 + 288, 0, 0, 26)
    + struct.pack("<IHHHH", 12, 12, 8, 1, 24)
    + COLOURS[::-1, :, ::-1].tobytes(),
}


@pytest.mark.parametrize("name", BMPS)
def test_bmps_of_every_kind_have_the_colours_of_pillow(name):
    header = read_header(BMPS[name])
    assert (header.width, header.height) == (12, 8)
    wanted = np.asarray(Image.open(io.BytesIO(BMPS[name])).convert("RGB")).astype(int)
    assert np.abs(made(BMPS[name]) - wanted).max() <= 8


JPEGS = {
    "grey": encode(scene(64, 48).convert("L"), "JPEG", quality=95),
    "YCbCr": encode(scene(64, 48), "JPEG", quality=95, subsampling=0),
    "RGB": encode(scene(64, 48), "JPEG", quality=95, keep_rgb=True),
    "CMYK": encode(scene(64, 48).convert("CMYK"), "JPEG", quality=95),
    "progressive": encode(scene(64, 48), "JPEG", quality=95, progressive=True),
}
# An Adobe marker defines the colour space of three components: 0 is RGB, 1 is YCbCr.
ADOBE = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0"
JPEGS["YCbCr by Adobe's marker"] = JPEGS["YCbCr"][:2] + ADOBE + b"\1" + JPEGS["YCbCr"][20:]
JPEGS["RGB by Adobe's marker"] = JPEGS["YCbCr"][:2] + ADOBE + b"\0" + JPEGS["YCbCr"][20:]


@pytest.mark.parametrize("name", JPEGS)
def test_jpegs_of_every_colour_space_have_the_right_colours(name):
    wanted = np.asarray(Image.open(io.BytesIO(JPEGS[name])).convert("RGB")).astype(int)
    assert psnr(made(JPEGS[name]), wanted) > 38


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_each_orientation_moves_every_pixel_to_its_place(orientation, kind):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(scene(40, 25, 6), kind, exif=exif, lossless=True, quality=100, subsampling=0)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)).convert("RGB"))).astype(int)
    found = made(data)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= (0 if kind != "JPEG" else 3)
