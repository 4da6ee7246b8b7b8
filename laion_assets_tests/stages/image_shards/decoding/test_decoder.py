"""JPEGs are decoded by libjpeg-turbo to the pixels of OpenCV, at every scale. Damaged ones fall back to OpenCV."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from laion_assets.stages.image_shards.decoding import decoder
from laion_assets.stages.image_shards.decoding.image_header import read_header
from laion_assets_tests.stages.image_shards.images import encode, jpeg, scene
from laion_assets_tests.stages.image_shards.photographs import photograph

PIXELS = photograph(203, 149, 1)
SAMPLINGS = ("420", "422", "444", "440", "411")
KINDS = {
    **{
        f"{sampling} {kind}": cv2.imencode(
            ".jpg",
            PIXELS,
            [
                cv2.IMWRITE_JPEG_SAMPLING_FACTOR, getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}"),
                cv2.IMWRITE_JPEG_PROGRESSIVE, int(kind == "progressive"), cv2.IMWRITE_JPEG_QUALITY, 88,
            ],
        )[1].tobytes()
        for sampling in SAMPLINGS
        for kind in ("baseline", "progressive")
    },
    "grey": encode(scene(203, 149).convert("L"), "JPEG"),
    "stored as RGB": encode(scene(203, 149), "JPEG", keep_rgb=True),
    "restart markers": encode(scene(203, 149), "JPEG", restart_marker_blocks=5),
    "one pixel": jpeg(1, 1),
}  # fmt: skip


def decode(data, divisor=1):
    return decoder.decode(data, read_header(data), divisor, lambda width, height: None)[0]


def decode_with_opencv(data, divisor=1):
    return cv2.imdecode(np.frombuffer(data, np.uint8), decoder._FLAGS[divisor])


@pytest.mark.parametrize("name", KINDS)
def test_jpegs_have_the_pixels_of_opencv(name, monkeypatch):
    wanted = decode_with_opencv(KINDS[name])
    monkeypatch.setattr(decoder, "_decode_cv2", lambda *arguments: pytest.fail("OpenCV decoded it"))
    found = decode(KINDS[name])
    assert found.dtype == np.uint8
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("divisor", [2, 4, 8])
@pytest.mark.parametrize("name", ["420 baseline", "444 progressive", "422 baseline", "grey"])
def test_scaled_jpegs_have_the_pixels_of_opencv(name, divisor):
    wanted = decode_with_opencv(KINDS[name], divisor)
    found = decode(KINDS[name], divisor)
    assert np.array_equal(found if found.ndim == 3 else cv2.cvtColor(found, cv2.COLOR_GRAY2BGR), wanted)


def test_damaged_jpegs_fall_back_to_opencv():
    random = np.random.default_rng(7)
    valid = KINDS["420 baseline"]
    decodable = 0
    for _ in range(60):
        data = bytearray(valid)
        data[random.integers(700, len(data) - 2)] = random.integers(0, 255)
        wanted = decode_with_opencv(bytes(data))
        if wanted is not None:
            decodable += 1
            assert np.array_equal(decode(bytes(data)), wanted)
    assert decodable > 30
    trailing = valid + b"PK\3\4" + bytes(99)
    assert np.array_equal(decode(trailing), decode_with_opencv(valid))


def test_cmyk_is_decoded_by_opencv():
    data = encode(scene(90, 70).convert("CMYK"), "JPEG")
    assert np.array_equal(decode(data), decode_with_opencv(data))
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
