"""Animations, profiles, texts and endless scans do not reach a decoder, or end at a limit."""

import contextlib
import io
import resource
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from laion_assets.reasons import Rejection
from laion_assets.stages.image_shards.decoding import image_header
from laion_assets.stages.image_shards.decoding.decoder_process import Decoder, reencode
from laion_assets.stages.image_shards.decoding.image_header import MAX_SCANS, check_scans, read_header
from laion_assets.stages.image_shards.decoding.reencoding import Reencoder
from laion_assets.stages.image_shards.decoding.still_image import still_png, still_webp
from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets_tests.cpu_time import cpu_time_below
from laion_assets_tests.stages.image_shards.decoding.test_colours import EXACT, chunk, made, png, random_samples
from laion_assets_tests.stages.image_shards.images import encode, jpeg, pixels, png16, scene

IMAGES = ImageSettings(decode_cpu_s=2.0)
SIGNATURE = b"\x89PNG\r\n\x1a\n"
PHOTO = scene(64, 48, 8)


def with_chunks(data, before=(), behind=()):
    """Return a PNG with additional chunks before its first IDAT and before its IEND."""
    first, last = data.index(b"IDAT") - 4, len(data) - 12
    return (
        data[:first]
        + b"".join(chunk(*part) for part in before)
        + data[first:last]
        + b"".join(chunk(*part) for part in behind)
        + data[last:]
    )


def frame_control(number, width, height, left=0, top=0):
    return b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, left, top, 1, 10, 0, 0)


def hostile_apng(colour, *frame):
    """Return a PNG of 64 x 64 whose first frame declares another size and has pixels of that size."""
    width, height = frame[:2]
    channels = {6: 4, 2: 3, 0: 1}[colour]
    rows = zlib.compress((b"\0" + b"\xab" * channels * width) * height)
    header = struct.pack(">IIBBBBB", 64, 64, 8, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"acTL", struct.pack(">II", 2, 0)), frame_control(0, *frame), (b"IDAT", rows)]
    return SIGNATURE + b"".join(chunk(*part) for part in [*parts, (b"IEND", b"")])


HOSTILE = {
    f"{frame} of type {colour}": hostile_apng(colour, *frame)
    for colour, frame in [
        (6, (65, 64)), (6, (64, 65)), (6, (100, 100)), (6, (64, 2_000)), (6, (2_000, 64)), (6, (2_000, 2_000)),
        (6, (64, 64, 10, 10)), (2, (5_000, 5_000)), (0, (5_000, 5_000)),
    ]
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_an_animated_png_never_crashes_the_decoder(name):
    """Each of these crashes OpenCV 4.11 with SIGSEGV: it writes the frame into a canvas of the header's size."""
    image = reencode(IMAGES, HOSTILE[name])
    assert image.error_message in (None, "undecodable: the decoder failed")
    assert (image.content is None) == (image.error_message is not None)
    assert reencode(IMAGES, HOSTILE[name]) == reencode(IMAGES, HOSTILE[name])


@pytest.mark.parametrize(("colour", "depth"), [(0, 8), (0, 16), (2, 8), (2, 16), (3, 4), (4, 16), (6, 8), (6, 16)])
def test_an_animated_png_becomes_its_default_image(colour, depth):
    samples, palette = random_samples(colour, depth)
    chunks = [(b"PLTE", palette[:, :3].astype(np.uint8).tobytes())] if colour == 3 else []
    still = png(samples, depth, colour, chunks)
    height, width = samples.shape[:2]
    before = [(b"acTL", struct.pack(">II", 2, 0)), frame_control(0, width, height)]
    pixels_of_another = struct.pack(">I", 2) + zlib.compress(bytes(9_999))
    behind = [frame_control(1, width, height), (b"fdAT", pixels_of_another)]
    assert np.array_equal(made(with_chunks(still, before, behind)), made(still))
    assert np.array_equal(made(with_chunks(still, before[:1], before[1:] + behind)), made(still)), (
        "not in the animation"
    )


def test_16_bit_pngs_have_the_right_colours():
    still = png16(PHOTO)
    animated = with_chunks(still, [(b"acTL", struct.pack(">II", 2, 0)), frame_control(0, *PHOTO.size)])
    assert np.array_equal(made(still), np.asarray(PHOTO))
    assert np.array_equal(made(animated), np.asarray(PHOTO))


BOMB = zlib.compress(bytes(1 << 28), 9)
"""260 kB that expand to 256 MiB."""
PNG_BOMBS = {
    "zTXt": (b"zTXt", b"a\0\0" + BOMB),
    "iTXt": (b"iTXt", b"a\0\1\0\0\0" + BOMB),
    "iCCP": (b"iCCP", b"a\0\0" + BOMB),
}


@pytest.mark.parametrize("name", PNG_BOMBS)
def test_compressed_texts_and_profiles_are_never_expanded(name):
    still = encode(PHOTO, "PNG")
    with cpu_time_below(1):
        image = Reencoder(IMAGES)(with_chunks(still, [PNG_BOMBS[name]] * 20))
    assert image == Reencoder(IMAGES)(still)


def test_an_endless_pixel_stream_ends_at_the_cpu_limit():
    """A PNG of 8 MB whose pixels expand to 8 GB, although its header needs 12 kB. Decoding all takes 16 s."""
    packer = zlib.compressobj(9)
    start = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    pixels_of_bomb = start + again * 8_000
    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    bomb = SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", pixels_of_bomb) + chunk(b"IEND", b"")
    assert len(bomb) < 20_000_000
    images = ImageSettings(decode_cpu_s=0.5)
    with Decoder(images) as decoder:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        decoder.put(bomb)
        assert decoder.take().reencoded.error_message == "decode_timeout: the decoder's time is over"
        after = resource.getrusage(resource.RUSAGE_CHILDREN)  # of the killed process, including its imports
    assert after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime < 3


def test_a_png_without_optional_chunks_is_not_copied():
    still = encode(PHOTO, "PNG")
    assert still_png(still)[0] is still


def animated_webp(frames, **options):
    return encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=50, **options)


def rgba(seed):
    array = np.asarray(scene(64, 48, seed).convert("RGBA")).copy()
    array[:10, :20, 3], array[10:20, :20, 3] = 0, 128
    return Image.fromarray(array)


@pytest.mark.parametrize("lossless", [True, False])
def test_an_animated_webp_becomes_its_first_frame(lossless):
    frames = [rgba(seed) for seed in range(3)]
    exif = Image.Exif()
    exif[0x0112] = 1
    data = animated_webp(
        frames, lossless=lossless, quality=90, exif=exif, icc_profile=b"profile" * 9, background=(255, 0, 0, 255)
    )
    stored = Image.open(io.BytesIO(data)).convert("RGBA")
    wanted = Image.alpha_composite(Image.new("RGBA", stored.size, "white"), stored).convert("RGB")
    assert np.abs(made(data) - np.asarray(wanted).astype(int)).max() <= 1
    assert still_webp(data).count(b"ANMF") == 1
    assert b"profile" not in still_webp(data)


def webp_frame(left, top, width, height, canvas=(64, 48)):
    """Return an animated WebP with one frame on its canvas or beyond it."""
    still = encode(Image.new("RGB", (width, height), (10, 200, 30)), "WEBP", lossless=True)[12:]
    numbers = (left // 2, top // 2, width - 1, height - 1, 50)
    frame = b"".join(number.to_bytes(3, "little") for number in numbers) + b"\0" + still
    sizes = b"".join((side - 1).to_bytes(3, "little") for side in canvas)
    chunks = [(b"VP8X", b"\2\0\0\0" + sizes), (b"ANIM", bytes(6)), (b"ANMF", frame)]
    body = b"".join(kind + struct.pack("<I", len(part)) + part + bytes(len(part) % 2) for kind, part in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def test_a_frame_smaller_than_the_canvas_has_a_white_background():
    found = made(webp_frame(10, 20, 30, 10))
    assert found.shape == (48, 64, 3)
    assert (found[20:30, 10:40] == (10, 200, 30)).all()
    found[20:30, 10:40] = 255
    assert (found == 255).all()


@pytest.mark.parametrize("frame", [(50, 40, 64, 48), (0, 0, 200, 200)])
def test_a_frame_beyond_the_canvas_is_refused(frame):
    assert reencode(IMAGES, webp_frame(*frame)).error_message == "undecodable: the decoder failed"


def test_a_truncated_animated_webp_is_refused():
    data = animated_webp([rgba(seed) for seed in range(3)])
    for kept in range(30, len(data), 97):
        assert Reencoder(EXACT)(data[:kept]).content is None


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_re_encoded(kind):
    frames = [scene(64, 48, seed) for seed in range(2)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True, duration=50)
    images = ImageSettings(
        encode_format=kind.lower(), encode_quality=1, skip_reencode=True, resize_mode="no", keep_personal_exif=True
    )
    still = encode(frames[0], kind, lossless=True)
    assert Reencoder(images)(still).content == still
    kept = Reencoder(images)(data).content
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert getattr(Image.open(io.BytesIO(kept)), "n_frames", 1) == 1


def test_an_animated_gif_becomes_its_first_frame():
    frames = [scene(64, 48, seed).quantize(16) for seed in range(4)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(made(data), np.asarray(frames[0].convert("RGB")).astype(int))


def many_scans(scans, width=4_000, height=3_000):
    """Return a grey progressive JPEG: one DC scan, then scans of end-of-band runs; each needs a pass."""
    quantisation = b"\xff\xdb\0\x43\0" + bytes([1] * 64)
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3) + b"\1\x22\0\2\x11\0\3\x11\0"
    one_code = bytes([1] + [0] * 15)
    tables = b"\xff\xc4\0\x14\0" + one_code + b"\0" + b"\xff\xc4\0\x14\x10" + one_code + b"\xe0"
    units = -(-width // 16) * -(-height // 16)
    dc = b"\xff\xda\0\x0c\3\1\0\2\0\3\0\0\0\0" + bytes(units * 6 // 8 + 1)
    runs = "".join(["0" + "1" * 14] * (-(-width // 8) * -(-height // 8) // 32_767 + 1))
    bits = runs.ljust(-(-len(runs) // 8) * 8, "1")
    run_bytes = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    ac = b"\xff\xda\0\x08\1\1\0\1\x3f\0" + run_bytes
    return b"\xff\xd8" + quantisation + frame + tables + dc + ac * (scans - 1) + b"\xff\xd9"


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded(monkeypatch):
    assert reencode(IMAGES, many_scans(MAX_SCANS)).error_message is None
    monkeypatch.setattr("cv2.imdecode", lambda *arguments: pytest.fail("a decoder ran"))
    monkeypatch.setattr("simplejpeg.decode_jpeg", lambda *arguments, **options: pytest.fail("a decoder ran"))
    for scans in (MAX_SCANS + 1, 50_000):
        assert Reencoder(IMAGES)(many_scans(scans)).error_message == f"undecodable: more than {MAX_SCANS} scans"


def sequential_scans(repeats):
    """Return a sequential JPEG with repeated scans of each component, which libjpeg accepts."""
    data = many_scans(1)
    data = data.replace(b"\xff\xc2", b"\xff\xc0", 1)
    one = b"\xff\xda\0\x08\1%c\0\0\x3f\0" + bytes(9_000)
    scans = b"".join(one % component for component in (1, 2, 3))
    return data[: data.index(b"\xff\xda")] + scans * repeats + b"\xff\xd9"


def test_a_sequential_jpeg_of_many_scans_is_refused_too():
    check_scans(sequential_scans(MAX_SCANS // 3))
    with pytest.raises(Rejection, match=f"more than {MAX_SCANS} scans"):
        check_scans(sequential_scans(MAX_SCANS // 3 + 1))


def test_only_scans_of_the_image_itself_count():
    """Scans of a thumbnail, of a second image after the end, and bytes that look like a marker do not count."""
    looks_like = b"\xff\xda" * 500
    comment = b"\xff\xfe" + struct.pack(">H", 2 + len(looks_like)) + looks_like
    data = jpeg()
    check_scans(data[:2] + comment + data[2:])
    check_scans(data + looks_like)
    assert made(data[:2] + comment + data[2:] + looks_like).shape == (240, 320, 3)


def test_scans_are_counted_in_linear_time():
    for data in (b"\xff\xda" * 5_000_000, b"\xff\xda\0\0" * 200 + b"\xff\1" * 500_000, b"\xff" * 9_000_000):
        with cpu_time_below(1), contextlib.suppress(Rejection):
            check_scans(b"\xff\xd8" + data)


LARGE_HEADERS = {
    "PNG of empty chunks": SIGNATURE + chunk(b"IHDR", bytes(13)) + b"\0\0\0\0eXIf\0\0\0\0" * 800_000,
    "PNG of EXIF": SIGNATURE
    + chunk(b"IHDR", bytes(13))
    + chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + bytes(70)) * 100_000,
    "WebP of EXIF": b"RIFF\0\0\0\0WEBP" + b"VP8X\x0a\0\0\0\x0a" + bytes(9) + b"EXIF\0\0\0\0" * 1_200_000,
    "JPEG of fill bytes": b"\xff\xd8" + b"\xff" * 10_000_000,
    "JPEG of EXIF": b"\xff\xd8" + (b"\xff\xe1\0\x10Exif\0\0II*\0\x08\0\0\0") * 500_000,
    "JPEG of zeros": b"\xff\xd8\xff\0" + bytes(10_000_000),
    "JPEG of empty segments": b"\xff\xd8\xff\xe0" + b"\0\0\xff\xe0" * 2_000_000,
}


@pytest.mark.parametrize("name", LARGE_HEADERS)
def test_headers_are_read_in_linear_time(name):
    with cpu_time_below(2), contextlib.suppress(Rejection):
        read_header(LARGE_HEADERS[name])
        still_png(LARGE_HEADERS[name]) if "PNG" in name else still_webp(LARGE_HEADERS[name])


SEEDS = [
    encode(PHOTO, "JPEG"), encode(PHOTO, "JPEG", progressive=True), encode(PHOTO, "PNG"), encode(PHOTO, "WEBP"),
    webp_frame(10, 20, 30, 10), HOSTILE["(65, 64) of type 6"], encode(PHOTO.quantize(16), "GIF"), encode(PHOTO, "BMP"),
    png(*random_samples(0, 4)[:1], 4, 0, [(b"tRNS", b"\0\1")]),
]  # fmt: skip
STARTS = [seed[:30] for seed in SEEDS] + [b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8X", b"BM", SIGNATURE, b""]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(STARTS), st.binary(max_size=300))
def test_a_header_of_any_bytes_is_read_or_refused(start, noise):
    examine(start + noise)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=8)), max_size=5)
)
def test_a_damaged_header_is_read_or_refused(seed, damages):
    data = bytearray(seed)
    for place, noise in damages:
        data[place % len(data) : place % len(data) + len(noise)] = noise
    examine(bytes(data))


def examine(data):
    """Run our own parsers on a file, as before a native decoder."""
    with cpu_time_below(1), contextlib.suppress(Rejection):
        header = read_header(data)
        assert header.format in ("JPEG", "PNG", "WEBP", "GIF", "BMP")
        assert 1 <= header.orientation <= 8
        assert min(header.width, header.height) >= 0
        {"JPEG": check_scans, "PNG": still_png, "WEBP": still_webp}.get(header.format, len)(data)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_file_truncated_in_its_header_is_refused(seed):
    reencoder = Reencoder(IMAGES)
    for kept in range(80):
        examine(seed[:kept])
        assert reencoder(seed[:kept]).error_message.startswith(("undecodable: ", "not_an_image: "))


CRASHES = ("decoder_crash", "decode_timeout", "internal")


def test_damaged_images_of_every_format_never_crash_the_decoder():
    """300 files per run, each damaged in its first bytes or at random. A crash would be the reason `decoder_crash`."""
    random = np.random.default_rng(11)
    for seed in SEEDS:
        for _ in range(34):
            data = bytearray(seed)
            for place in random.integers(0, min(len(data), random.choice([60, 400, 10_000])), 6):
                data[place] = random.integers(0, 256)
            error = reencode(IMAGES, bytes(data)).error_message or ""
            if error.startswith(CRASHES):  # once, the machine may have been too busy; a bad image fails each time
                error = reencode(IMAGES, bytes(data)).error_message or ""
            assert not error.startswith(CRASHES), (error, bytes(data))


def test_the_largest_number_of_segments_is_bounded():
    assert image_header.MAX_SEGMENTS <= 10_000
    with pytest.raises(Rejection, match="without a frame header"):
        read_header(b"\xff\xd8" + b"\xff\xe0\0\2" * 20_000 + jpeg()[2:])
    assert pixels(Reencoder(EXACT)(b"\xff\xd8" + b"\xff\xe0\0\2" * 5_000 + jpeg()[2:]).content).shape == (240, 320, 3)
