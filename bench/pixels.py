"""CPU time and similarity of re-encoding by size class: ours, ours with `exact_pixels`, img2dataset's Resizer.

    python bench/pixels.py [--images 40] [--json FILE]

Similarity is the PSNR against img2dataset 1.47.0's Resizer, of images that differ: of the resized pixels (both write
lossless PNG) and of the files (both write JPEG of quality 95, whose rounding adds to the difference). JPEGs from 1,280
pixels on are decoded at a smaller scale. CPU is this process's user and system time.
"""

import argparse
import io
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"NO_ALBUMENTATIONS_UPDATE": "1", "OPENCV_LOG_LEVEL": "ERROR"}
sys.path.insert(0, str(Path(__file__).parents[1]))

import cv2
import numpy as np
from img2dataset.resizer import Resizer

from laion_assets.stages.image_shards.decoding.reencoding import Reencoder
from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets_tests.stages.image_shards.images import pixels, psnr
from laion_assets_tests.stages.image_shards.photographs import Photograph

CLASSES = ((257, 500), (500, 1_023), (1_024, 1_279), (1_280, 2_048), (2_048, 4_095), (4_096, 5_000))
"""Ranges of the longer side, in pixels."""
SAMPLINGS = ("420", "420", "420", "444", "grey")


def main() -> None:
    """Print one line per size class, and all figures as JSON."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, default=40, help="images per size class")
    arguments.add_argument("--json", type=Path)
    options = arguments.parse_args()
    cv2.setNumThreads(1)
    classes = {}
    for low, high in CLASSES:
        classes[f"{low}-{high}"] = figures = measure(photographs(low, high, options.images))
        print(f"{low:5d} to {high:5d}: {json.dumps(figures)}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(classes, indent=2), encoding="utf-8")


def photographs(low: int, high: int, count: int) -> list[Photograph]:
    """Return seeded photographs of a size class: arbitrary sizes, both orientations, a quarter progressive."""
    random = np.random.default_rng(low)
    found = []
    for seed in range(count):
        longer = int(random.integers(low, high))
        shorter = round(longer / random.choice([1, 4 / 3, 3 / 2, 16 / 9]))
        size = (longer, shorter) if random.random() < 0.6 else (shorter, longer)
        sampling, quality = str(random.choice(SAMPLINGS)), int(random.integers(75, 96))
        found.append(Photograph(*size, low + seed, sampling, bool(random.random() < 0.25), quality))
    return found


def measure(photos: list[Photograph]) -> dict[str, Any]:
    """Return CPU in ms per image of each engine, and the PSNR of the images that differ."""
    ours = Reencoder(ImageSettings())
    paths = {
        "ours": ours,
        "exact": Reencoder(ImageSettings(exact_pixels=True)),
        "img2dataset": Resizer(256, "border", False),
    }
    stock_pixels = Resizer(256, "border", False, encode_quality=1, encode_format="png")
    cpu: dict[str, list[float]] = {name: [] for name in (*paths, "decode", "decode_scaled")}
    of_pixels, of_files, differing = [], [], 0
    for photo in photos:
        data = photo.jpeg()
        outputs = {}
        for name, path in paths.items():
            stock = isinstance(path, Resizer)
            seconds, result = _measure_cpu(path, io.BytesIO(data) if stock else data)
            outputs[name] = result[0] if stock else result.content
            cpu[name].append(seconds)
        buffer = np.frombuffer(data, np.uint8)
        cpu["decode"].append(_measure_cpu(cv2.imdecode, buffer, cv2.IMREAD_UNCHANGED)[0])
        cpu["decode_scaled"].append(_measure_cpu(cv2.imdecode, buffer, cv2.IMREAD_REDUCED_COLOR_2)[0])
        if outputs["ours"] == outputs["img2dataset"] or photo.sampling == "grey":
            continue  # img2dataset writes a grey image for a grey input
        differing += 1
        of_files.append(psnr(pixels(outputs["ours"]), pixels(outputs["img2dataset"])))
        expected = pixels(stock_pixels(io.BytesIO(data))[0])
        of_pixels.append(psnr(ours.resize(data).pixels[..., ::-1].astype(np.int32), expected))
    figures: dict[str, Any] = {
        f"{name}_cpu_ms": round(1_000 * statistics.fmean(values), 2) for name, values in cpu.items()
    }
    figures |= {"images": len(photos), "differing": differing}
    for name, values in (("pixels", of_pixels), ("files", of_files)):
        if values:
            figures |= {f"psnr_{name}_min": round(min(values), 1)}
            figures |= {f"psnr_{name}_median": round(statistics.median(values), 1)}
    return figures


def _measure_cpu(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    started = time.process_time()
    result = work(*arguments)
    return time.process_time() - started, result


if __name__ == "__main__":
    main()
