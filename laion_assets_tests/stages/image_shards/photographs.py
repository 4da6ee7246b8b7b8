"""Seeded images with the statistics of photographs: occluding shapes of every size, texture, lettering and grain.

The spectrum of such "dead leaves" falls like that of natural scenes (Lee, Mumford and Huang 2001).
"""

from dataclasses import dataclass

import cv2
import numpy as np

LONGEST_RADIUS = 0.35
"""Radius of the largest leaf, as a share of the longer side."""


@dataclass(frozen=True)
class Photograph:
    """One JPEG: its size in pixels and how it is coded. `sampling` is OpenCV's name, or `grey`."""

    width: int
    height: int
    seed: int
    sampling: str = "420"
    progressive: bool = False
    quality: int = 90

    def jpeg(self) -> bytes:
        """Return the encoded file."""
        image = photograph(self.width, self.height, self.seed)
        options = [cv2.IMWRITE_JPEG_QUALITY, self.quality, cv2.IMWRITE_JPEG_PROGRESSIVE, int(self.progressive)]
        if self.sampling == "grey":
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        else:
            factor = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{self.sampling}")
            options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]
        return cv2.imencode(".jpg", image, options)[1].tobytes()


def photograph(width: int, height: int, seed: int) -> np.ndarray:
    """Return a (height, width, 3) uint8 BGR image, the same for the same arguments."""
    random = np.random.default_rng(seed)
    longer = max(width, height)
    image = np.full((height, width, 3), random.integers(0, 256, 3), np.uint8)
    for _ in range(600):
        radius = longer * LONGEST_RADIUS / (1 + 80 * random.random() ** 0.5)
        place = random.random(2) * (width, height)
        colour = random.integers(0, 256, 3).tolist()
        axes = np.maximum(1, radius * (0.4 + random.random(2))).astype(int).tolist()
        cv2.ellipse(image, place.astype(int).tolist(), axes, 360 * random.random(), 0, 360, colour, -1, cv2.LINE_AA)
    shade = np.zeros((height, width, 3), np.float32)
    side = 3
    while side < longer:
        grid = random.standard_normal((side, side, 3), np.float32)
        grid = 0.7 * grid.mean(axis=2, keepdims=True) + 0.3 * grid  # textures differ more in light than in colour
        shade += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * np.float32(45 / side**0.45)
        side *= 2
    image = np.clip(cv2.GaussianBlur(image, (0, 0), 0.7) * np.float32(0.75) + shade + 30, 0, 255)
    grain = random.standard_normal((height, width, 1), np.float32) * 3
    image = np.clip(image + grain, 0, 255).astype(np.uint8)
    if seed % 3 == 0:
        for line in range(3):
            place = (width // 20, height * (line + 1) // 4)
            cv2.putText(
                image, "Lorem ipsum 42", place, cv2.FONT_HERSHEY_SIMPLEX, longer / 600 / (line + 1), (255, 255, 255), 2,
                cv2.LINE_AA,
            )  # fmt: skip
    return image
