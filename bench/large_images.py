"""CPU of the decoder process for one large image, by format and size, compared with `images.decode_cpu_s`.

    python bench/large_images.py [--megapixels 20 50 100]

CPU is the kernel's run time of the process (/proc/PID/schedstat), which other processes hardly change. The wall time is
printed too. The last line is a JSON object.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ |= {"OPENCV_LOG_LEVEL": "ERROR"}
sys.path.insert(0, str(Path(__file__).parents[1]))

import cv2
import numpy as np

from bench.decoder_process import cpu_s
from laion_assets.stages.image_shards.decoding import decoder_process
from laion_assets.stages.image_shards.decoding.decoder_child import cpu_limit_s
from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets_tests.stages.image_shards.photographs import photograph

GRAIN = 6
"""Levels of noise on each sample: an enlarged photograph without noise would compress too well."""
FORMATS = {
    "jpeg 4:2:0": (".jpg", (cv2.IMWRITE_JPEG_QUALITY, 88)),
    "jpeg 4:2:0 progressive": (".jpg", (cv2.IMWRITE_JPEG_QUALITY, 88, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
    "jpeg 4:4:4": (
        ".jpg",
        (cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    ),
    "png": (".png", (cv2.IMWRITE_PNG_COMPRESSION, 1)),
    "png 16 bits, alpha": (".png", (cv2.IMWRITE_PNG_COMPRESSION, 1)),
    "webp": (".webp", (cv2.IMWRITE_WEBP_QUALITY, 90)),
    "webp lossless": (".webp", (cv2.IMWRITE_WEBP_QUALITY, 101)),
}
WEBP_SIDE = 16_383
"""Maximum side of a WebP."""


def main() -> None:
    """Measure and print the figures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--megapixels", type=int, nargs="+", default=[20, 50, 100])
    images = ImageSettings(decode_cpu_s=60.0)
    figures = {}
    for megapixels in arguments.parse_args().megapixels:
        pixels = make_image(megapixels)
        for name, (suffix, options) in FORMATS.items():
            if suffix == ".webp" and max(pixels.shape) > WEBP_SIDE:
                continue
            body = cv2.imencode(suffix, add_alpha(pixels) if "alpha" in name else pixels, options)[1].tobytes()
            cpu, wall = decode(images, body)
            limit = cpu_limit_s(ImageSettings(), pixels.shape[0] * pixels.shape[1])
            figures[f"{megapixels} megapixels, {name}"] = {"cpu_s": round(cpu, 3), "limit_s": round(limit, 2)}
            print(f"{megapixels:4} megapixels {name:24} {len(body) / 1e6:6.1f} MB {cpu:6.2f} s CPU {wall:6.2f} s wall")
    print(json.dumps({"bench": "large_images", "figures": figures}))


def make_image(megapixels: int) -> np.ndarray:
    """Return a 4:3 (H, W, 3) uint8 image with a photograph's statistics, enlarged and with noise."""
    width = int((megapixels * 1e6 * 4 / 3) ** 0.5)
    large = cv2.resize(photograph(800, 600, 1), (width, width * 3 // 4), interpolation=cv2.INTER_CUBIC)
    grain = np.random.default_rng(0).integers(-GRAIN, GRAIN + 1, large.shape, dtype=np.int16)
    return np.clip(large + grain, 0, 255).astype(np.uint8)


def add_alpha(pixels: np.ndarray) -> np.ndarray:
    """Return (H, W, 4) uint16, slightly transparent."""
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2BGRA).astype(np.uint16) * 257 - (np.arange(4) * 3).astype(np.uint16)


def decode(images: ImageSettings, body: bytes) -> tuple[float, float]:
    """Decode one image in the decoder process. Return CPU and wall seconds."""
    with decoder_process.Decoder(images) as decoder:
        process = decoder_process.running_process()
        assert process is not None
        before, started = cpu_s(process), time.perf_counter()
        decoder.put(body)
        error = decoder.take().reencoded.error_message
        assert error is None, error
        return cpu_s(process) - before, time.perf_counter() - started


if __name__ == "__main__":
    main()
