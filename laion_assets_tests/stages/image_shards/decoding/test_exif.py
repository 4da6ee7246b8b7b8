"""The column `exif` has exifread's tags, within limits of time and memory, and is read in the decoder process only."""

import io
import json
import resource
import struct
import subprocess
import sys

import exifread
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from laion_assets.stages.image_shards.decoding.exif import MAX_JSON_CHARS, exif_json, technical
from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets.workers.pool import run_tasks
from laion_assets_tests.cpu_time import cpu_time_below
from laion_assets_tests.stages.image_shards.images import encode, jpeg, scene
from laion_assets_tests.stages.image_shards.shards import committed_files, dataset_of
from laion_assets_tests.stages.image_shards.site import answer, running

PHOTO = scene(60, 40, 5)
CPU_S = 1.0
"""CPU limit. The worst file takes 0.04 s on one core of a 3 GHz machine; without limits, 100 s and more."""


def entry(order, tag, kind, count, value):
    return struct.pack(f"{order}HHI", tag, kind, count) + value.ljust(4, b"\0")


def directory(order, entries, following=0):
    return struct.pack(f"{order}H", len(entries)) + b"".join(entries) + struct.pack(f"{order}I", following)


def with_exif(tiff, kind="JPEG"):
    """Return a small JPEG or WebP with this TIFF block as its EXIF."""
    return encode(PHOTO, kind, exif=b"Exif\0\0" + tiff)


def camera(order):
    """Return a TIFF block as a camera writes it: image tags, an EXIF directory, and a thumbnail's directory."""
    mark, exif_at, values_at = (b"II*\0" if order == "<" else b"MM\0*"), 200, 400

    def short(tag, value):
        return entry(order, tag, 3, 1, struct.pack(f"{order}H", value))

    def long(tag, value):
        return entry(order, tag, 4, 1, struct.pack(f"{order}I", value))

    def pointer(tag, kind, count, place):
        return entry(order, tag, kind, count, struct.pack(f"{order}I", values_at + place))

    image = [
        pointer(0x010F, 2, 7, 0), short(0x0112, 6), pointer(0x011A, 5, 1, 8), pointer(0x011B, 5, 1, 8),
        short(0x0128, 2), short(0x0213, 1), long(0x8769, exif_at),
    ]  # fmt: skip
    exif = [
        entry(order, 0x9000, 7, 4, b"0230"), entry(order, 0x9101, 7, 4, b"\1\2\3\0"), pointer(0x9102, 5, 1, 16),
        pointer(0x927C, 7, 100, 0), entry(order, 0xA000, 7, 4, b"0100"), short(0xA001, 1), long(0xA002, 4032),
        long(0xA003, 3024), pointer(0x9286, 7, 16, 8), short(0x9209, 16),
    ]  # fmt: skip
    thumbnail = [short(0x0103, 6), pointer(0x011A, 5, 1, 8), long(0x0201, 600), long(0x0202, 10)]
    head = mark + struct.pack(f"{order}I", 8) + directory(order, image, 330)
    values = b"Camera\0\0" + struct.pack(f"{order}IIII", 72, 1, 16, 5) + bytes(200)
    block = head.ljust(exif_at, b"\0") + directory(order, exif)
    return (block.ljust(330, b"\0") + directory(order, thumbnail)).ljust(values_at, b"\0") + values


def pillows():
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x010E], exif[0x8298] = "Camera Maker", 3, "é description " * 300, "me"
    exif.get_ifd(0x8825)[29] = "2020:01:01"
    exif.get_ifd(0x8769)[0xA434] = "a lens"
    return exif.tobytes()[6:]


BLOCKS = {"little-endian": camera("<"), "big-endian": camera(">"), "Pillow's": pillows()}


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize("name", BLOCKS)
def test_tags_equal_those_of_exifread(name, kind):
    data = with_exif(BLOCKS[name], kind)
    found = {key: str(value).strip() for key, value in exifread.process_file(io.BytesIO(data), details=False).items()}
    assert len(found) > 3
    assert exif_json(data, personal=True) == json.dumps(found)
    assert exif_json(data, personal=False) == json.dumps(technical(found))


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP"])
def test_formats_without_exif_support_have_no_tags(kind):
    data = encode(PHOTO, kind)
    assert exifread.process_file(io.BytesIO(data), details=False) == {}
    assert exif_json(data, personal=True) == "{}"


def crowded(kind, count=999):
    """Return 5,000 entries, each of `count` values of one type, all with the same data."""
    entries = [struct.pack(">HHII", 0x0100 + number, kind, count, 8) for number in range(5_000)]
    return b"MM\0*\0\0\0\x08" + directory(">", entries)


def nested(tag):
    """Return 5,000 pointers to their own directory: 25,000,000 entries."""
    return b"MM\0*\0\0\0\x08" + directory(">", [struct.pack(">HHII", tag, 4, 1, 8)] * 5_000)


def chained():
    """Return 8,000 empty directories."""
    return b"MM\0*\0\0\0\x08" + b"".join(struct.pack(">HI", 0, 14 + 6 * number) for number in range(8_000))


BOMBS = {
    **{f"values of type {kind}": with_exif(crowded(kind)) for kind in (1, 3, 4, 5, 7, 12)},
    "one text many times": with_exif(crowded(2, 60_000)),
    "GPS directories": with_exif(nested(0x8825)),
    "interoperability directories": with_exif(nested(0xA005)),
    "a chain of directories": with_exif(chained()),
    "20 MB behind the EXIF": with_exif(crowded(2, 20_000_000)) + bytes(20_000_000),
    "500,000 segments": b"\xff\xd8" + (b"\xff\xe0\0\x10JFIF" + bytes(10)) * 500_000 + b"Exif",
    "1,000,000 chunks": b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x08" + bytes(9) + b"ABCD\0\0\0\0" * 1_000_000,
    "a segment of less than its own length": b"\xff\xd8\xff\xe0\0\x02JFIFExif" + bytes(20_000_000),
    "a HEIF file": b"\xff\xd8\xff\xe0ftypheicExif" + bytes(1_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_hostile_exif_is_null_or_empty_within_time_and_memory(name):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with cpu_time_below(CPU_S):
        text = exif_json(BOMBS[name], personal=True)
    assert text in (None, "{}")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_a_value_that_is_too_long_is_null():
    text = b"\xc2\x80" * MAX_JSON_CHARS  # each two bytes are six characters of JSON
    tiff = b"II*\0\x08\0\0\0" + directory("<", [struct.pack("<HHII", 0x010E, 2, 30_000, 26)]) + text[:30_000]
    assert exif_json(with_exif(tiff), personal=True) is None
    assert exif_json(with_exif(tiff), personal=False) == "{}"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(["<", ">"]), st.integers(0, 400), st.booleans())
def test_any_bytes_become_json_or_null(noise, order, place, personal):
    block = bytearray(camera(order))
    block[place : place + len(noise)] = noise
    for data in (
        with_exif(bytes(block)),
        b"\xff\xd8\xff\xe1Exif" + noise,
        b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x08" + noise,
    ):
        with cpu_time_below(CPU_S):
            text = exif_json(data, personal)
        assert text is None or isinstance(json.loads(text), dict)


def test_hostile_exif_does_not_fail_its_image(tmp_path):
    bodies = {"bomb": BOMBS["GPS directories"], "camera": with_exif(BLOCKS["big-endian"]), "plain": jpeg()}
    rows = [(f"http://photos.test/{name}.jpg", name) for name in bodies]
    with running({f"/{name}.jpg": answer(body) for name, body in bodies.items()}) as site:
        dataset = dataset_of(tmp_path, rows, site.resolve, images=ImageSettings())
        outcomes = []
        assert run_tasks([ShardTask(dataset, 0)], 1, outcomes.append) == []
    table = pq.read_table(io.BytesIO(committed_files(dataset)["00000.parquet"])).to_pylist()
    exifs = {row["caption"]: row["exif"] for row in table}
    assert {row["status"] for row in table} == {"success"}
    assert exifs["bomb"] is None
    assert exifs["plain"] == "{}"
    assert json.loads(exifs["camera"])["Image Orientation"] == "Rotated 90 CW"
    assert outcomes[0].manifest.details["exif_unreadable"] == 1


WORKER = """
import sys
from pathlib import Path
import laion_assets.stages.image_shards.shard.fetch
from laion_assets.stages.image_shards.decoding.decoder_process import Decoder
from laion_assets.stages.image_shards.settings import ImageSettings

with Decoder(ImageSettings()) as decoder:
    decoder.put(Path(sys.argv[1]).read_bytes())
    print(decoder.take().exif)
package = "laion_assets.stages.image_shards.decoding."
own = {package + name for name in ("exif", "decoder", "reencoding", "image_header")}
print(sorted(own.union({"exifread", "PIL", "cv2", "simplejpeg"}) & set(sys.modules)))
"""


def test_a_worker_parses_no_image(tmp_path):
    (tmp_path / "image").write_bytes(with_exif(BLOCKS["little-endian"]))
    arguments = [sys.executable, "-c", WORKER, str(tmp_path / "image")]
    exif, modules = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.splitlines()
    assert "Image Orientation" in json.loads(exif)
    assert modules == "[]"
