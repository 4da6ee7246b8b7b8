"""Generate photos as on the web: LAION's mix of sizes, natural statistics, and realistic file sizes.

Half of LAION-400M's images have a longer side under 500 pixels, and 6 % one over 1,024; a log-normal distribution has
both quantiles. An image is noise of equal energy in every octave (the 1/f spectrum of natural images, Field 1987) with
flat shapes that have sharp borders. Everything is derived from the seed.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import cv2
import numpy as np
from PIL import Image

MEDIAN_SIDE = 497.0
SIGMA = 0.465
"""ln(1024 / 497) divided by the normal quantile of 94 %."""
SIDES = (96, 3_600)
ASPECTS = ((1.0, 0.2), (4 / 3, 0.25), (3 / 2, 0.2), (16 / 9, 0.08), (3 / 4, 0.12), (2 / 3, 0.12), (2.5, 0.03))
"""(width by height, share)."""
PROGRESSIVE_SHARE = 0.25
EXIF_SHARE = 0.2
OTHER_FORMATS = (("PNG", 0.02), ("WEBP", 0.02))


@dataclass(frozen=True)
class Photo:
    """A photo's file: name, format, width and height in pixels, size in bytes."""

    name: str
    format: str
    width: int
    height: int
    size: int

    @property
    def longer(self) -> int:
        """The longer side in pixels."""
        return max(self.width, self.height)


def make_photos(folder: Path, count: int, seed: int, log: Callable[[int], None] = lambda done: None) -> list[Photo]:
    """Write `count` photos into `folder`, the same for the same seed. `log` gets the number of photos done."""
    folder.mkdir(parents=True, exist_ok=True)
    photos = []
    ranks = (np.random.default_rng(seed).permutation(count) + 0.5) / count  # the shares also hold for few photos
    for number, rank in enumerate(ranks):
        rng = np.random.default_rng([seed, number])
        width, height = sides(rng, longer_side(rank))
        content, kind = encode(make_image(rng, width, height), rng)
        name = f"photo-{number:05d}.{kind.lower().replace('jpeg', 'jpg')}"
        (folder / name).write_bytes(content)
        photos.append(Photo(name, kind, width, height, len(content)))
        log(number + 1)
    return photos


def longer_side(rank: float) -> int:
    """Return the quantile `rank` of the longer side, in pixels."""
    side = math.exp(math.log(MEDIAN_SIDE) + SIGMA * NormalDist().inv_cdf(rank))
    return int(np.clip(round(side), *SIDES))


def sides(rng: np.random.Generator, longer: int) -> tuple[int, int]:
    """Return width and height of one photo."""
    ratios, shares = zip(*ASPECTS, strict=True)
    ratio = rng.choice(ratios, p=np.array(shares) / sum(shares))
    shorter = max(64, round(longer / max(ratio, 1 / ratio)))
    return (longer, shorter) if ratio >= 1 else (shorter, longer)


def make_image(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Return a (height, width, 3) uint8 RGB image."""
    octaves = math.ceil(math.log2(max(width, height)))
    detail = rng.uniform(0.2, 0.8)  # some photos are soft, some are sharp to the pixel
    image = np.zeros((1, 1, 3), np.float32)
    for octave in reversed(range(octaves)):  # each twice as fine as the one before
        shape = (math.ceil(height / 2**octave), math.ceil(width / 2**octave))
        image = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_LINEAR)
        strength = 17.0 if octave > 1 else 13.0 * detail if octave == 1 else 5.0 * detail
        image += strength * rng.standard_normal((*shape, 1), np.float32)
        if octave >= 3:
            image += 7 * rng.standard_normal((*shape, 3), np.float32)
    image += rng.uniform(90, 160)
    for _ in range(rng.integers(2, 9)):
        centre = rng.uniform(0, 1, 2) * (width, height)
        points = centre + rng.normal(0, max(width, height) / 6, (rng.integers(3, 7), 2))
        left, top = np.clip(points.min(axis=0), 0, (width - 1, height - 1)).astype(int)
        right, bottom = np.clip(points.max(axis=0), 0, (width - 1, height - 1)).astype(int)
        part = image[top : bottom + 1, left : right + 1]
        mask = np.zeros(part.shape[:2], np.uint8)
        cv2.fillPoly(mask, [cv2.convexHull((points - (left, top)).astype(np.int32))], 255, cv2.LINE_AA)
        share = (mask.astype(np.float32) * (rng.uniform(0.3, 0.9) / 255))[..., np.newaxis]
        part += share * (rng.uniform(0, 255, 3).astype(np.float32) - part)
    return np.clip(image, 0, 255).astype(np.uint8)


def encode(image: np.ndarray, rng: np.random.Generator) -> tuple[bytes, str]:
    """Return the file's bytes and format: mostly JPEG of quality 75 to 95."""
    kinds = ["JPEG", *(kind for kind, _ in OTHER_FORMATS)]
    others = [share for _, share in OTHER_FORMATS]
    kind = str(rng.choice(kinds, p=[1 - sum(others), *others]))
    options: dict[str, object] = {}
    if kind != "PNG":
        options["quality"] = int(rng.integers(75, 96))
    if kind == "JPEG":
        options |= {"subsampling": 0 if rng.random() < 0.15 else 2, "progressive": rng.random() < PROGRESSIVE_SHARE}
        if rng.random() < EXIF_SHARE:
            options["exif"] = _make_exif()
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue(), kind


def _make_exif() -> Image.Exif:
    """Return EXIF as a camera writes it, without an orientation."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0132] = "Camera Maker", "Camera Model X100", "2019:05:04 12:30:15"
    exif[0x011A], exif[0x011B], exif[0x0128] = 72.0, 72.0, 2
    details = exif.get_ifd(0x8769)
    details |= {0x829A: 0.004, 0x829D: 2.8, 0x8827: 200, 0x9000: b"0230", 0x9003: "2019:05:04 12:30:15", 0xA001: 1}
    return exif
