"""Procedural images of two objects, and captions that describe them.

One sentence describes a scene completely, and every word of it matters: the positions of the objects decide whether "a
red circle left of a blue square" is correct. Images are drawn from signed distance functions (after Inigo Quilez,
https://iquilezles.org/articles/distfunctions2d/), so they are anti-aliased at any size.

Pixels depend only on the scene and the size: no clock, no global random state, no fonts. Requires only numpy.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS = {
    "red": (214, 40, 40),
    "orange": (244, 140, 30),
    "yellow": (240, 220, 50),
    "green": (45, 160, 70),
    "cyan": (60, 200, 215),
    "blue": (45, 80, 200),
    "purple": (130, 55, 165),
    "pink": (245, 140, 190),
}
SIZES = {"small": 0.12, "large": 0.20}
"""Radius of an object, as a fraction of the shorter of width and height."""
RELATIONS = ("left of", "right of", "above", "below")
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
BACKGROUNDS = {"white": (246, 246, 246), "grey": (128, 128, 128), "black": (22, 22, 22), "brown": (94, 66, 44)}
MAX_NOISE = 16
"""Largest amplitude of the uniform pixel noise, in grey levels of 255."""

HELD_OUT_SHARE = 8
"""One in this many combinations of objects and relation is held out of training."""


@dataclass(frozen=True)
class Thing:
    """One object of a scene: words of `SHAPES`, `COLOURS` and `SIZES`."""

    shape: str
    colour: str
    size: str

    @property
    def words(self) -> str:
        return f"{self.size} {self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """Two objects, the position of the first relative to the second, and the background.

    `noise` is the amplitude of the pixel noise in grey levels. `seed` determines places, tilts, shades and noise.
    """

    first: Thing
    relation: str
    second: Thing
    background: str
    noise: int = 0
    seed: int = 0

    @property
    def caption(self) -> str:
        """The full sentence: "a small red circle left of a large blue square on a grey background"."""
        return f"a {self.first.words} {self.relation} a {self.second.words} on a {self.background} background"

    @property
    def captions(self) -> tuple[str, ...]:
        """True sentences about the scene, from the most to the least detailed."""
        first, second = self.first, self.second
        short = (
            f"{with_article(first.colour)} {first.shape} {self.relation} {with_article(second.colour)} {second.shape}"
        )
        return (
            self.caption,
            f"a {first.words} {self.relation} a {second.words}",
            f"{short} on a {self.background} background",
            short,
            f"{with_article(first.colour)} {first.shape} and {with_article(second.colour)} {second.shape}",
            f"{with_article(first.colour)} {first.shape}",
        )

    @property
    def inverted(self) -> "Scene":
        """The same content described from the other object: "B right of A" for "A left of B"."""
        return replace(self, first=self.second, relation=INVERSE[self.relation], second=self.first)

    @property
    def swapped(self) -> "Scene":
        """The scene with its two objects swapped: the image of "B left of A" for "A left of B"."""
        return replace(self, first=self.second, second=self.first)


def combination(scene: Scene) -> tuple[str, str, str, str, str]:
    """Return shape, colour, relation, shape, colour. "B right of A" is the same as "A left of B"."""
    if scene.relation in ("right of", "below"):
        scene = scene.inverted
    return scene.first.shape, scene.first.colour, scene.relation, scene.second.shape, scene.second.colour


def is_held_out(scene: Scene) -> bool:
    """Whether this combination of objects and relation is held out of training (one in `HELD_OUT_SHARE`, by md5)."""
    digest = hashlib.md5("/".join(combination(scene)).encode(), usedforsecurity=False).digest()
    return digest[0] % HELD_OUT_SHARE == 0


def draw_scene(rng: np.random.Generator, held_out: bool | None = None) -> Scene:
    """Draw a random scene of two objects that differ in shape or colour. `held_out` None allows both kinds."""
    shapes, colours, sizes, backgrounds = SHAPES, tuple(COLOURS), tuple(SIZES), tuple(BACKGROUNDS)
    while True:
        pick = rng.integers(0, 2**31, size=10).tolist()
        first = Thing(shapes[pick[0] % len(shapes)], colours[pick[1] % len(colours)], sizes[pick[2] % len(sizes)])
        second = Thing(shapes[pick[3] % len(shapes)], colours[pick[4] % len(colours)], sizes[pick[5] % len(sizes)])
        if (first.shape, first.colour) == (second.shape, second.colour):
            continue
        relation, background = RELATIONS[pick[6] % len(RELATIONS)], backgrounds[pick[7] % len(backgrounds)]
        scene = Scene(first, relation, second, background, noise=pick[8] % (MAX_NOISE + 1), seed=pick[9])
        if held_out is None or is_held_out(scene) == held_out:
            return scene


def centres(scene: Scene) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the centres (x, y) of both objects, as fractions of width and height, y downwards."""
    return tuple((x, y) for x, y, _ in _placements(scene, np.random.default_rng(scene.seed)))  # type: ignore[return-value]


def render(scene: Scene, width: int, height: int) -> np.ndarray:
    """Draw the scene: (height, width, 3) uint8, RGB, anti-aliased. Deterministic for scene and size."""
    rng = np.random.default_rng(scene.seed)
    placements = _placements(scene, rng)
    return paint_objects((scene.first, scene.second), placements, scene.background, scene.noise, rng, width, height)


def paint_objects(
    things: tuple[Thing, ...],
    placements: tuple[tuple[float, float, float], ...],
    background: str,
    noise: int,
    rng: np.random.Generator,
    width: int,
    height: int,
) -> np.ndarray:
    """Draw objects at (x, y, tilt), x and y as fractions of width and height: (height, width, 3) uint8, RGB.

    `rng` determines shades and noise.
    """
    shades = rng.integers(-14, 15, size=(len(things) + 1, 3))
    slope_x, slope_y = (rng.integers(-14, 15, size=2) / 100).tolist()
    ground = np.tile(_shade(BACKGROUNDS[background], shades[-1]), width)
    # Rows of width * 3 numbers: numpy is many times slower when it broadcasts over a last axis of 3.
    rows = np.multiply.outer(1 + slope_y * np.linspace(-1, 1, height, dtype=np.float32), ground)
    rows += ground * np.repeat(slope_x * np.linspace(-1, 1, width, dtype=np.float32), 3)
    canvas = rows.reshape(height, width, 3)
    unit = min(width, height)
    for thing, (x, y, tilt), shade in zip(things, placements, shades[:-1], strict=True):
        _paint(canvas, thing, x * width, y * height, tilt, unit, _shade(COLOURS[thing.colour], shade))
    if noise:
        grain = np.frombuffer(rng.bytes(rows.size), np.int8).reshape(rows.shape)
        rows += grain * np.float32(noise / 128)
    np.maximum(rows, 0, out=rows)
    np.minimum(rows, 255, out=rows)
    return canvas.astype(np.uint8)


def _placements(scene: Scene, rng: np.random.Generator) -> tuple[tuple[float, float, float], ...]:
    """Return (x, y, tilt in radians) of both objects. They are separated on the axis of the relation."""
    near, far = rng.uniform(0.22, 0.32), rng.uniform(0.68, 0.78)
    across, tilts = rng.uniform(0.32, 0.68, size=2), rng.uniform(-0.2, 0.2, size=2)
    along = (near, far) if scene.relation in ("left of", "above") else (far, near)
    if scene.relation in ("left of", "right of"):
        return tuple((along[i], float(across[i]), float(tilts[i])) for i in (0, 1))
    return tuple((float(across[i]), along[i], float(tilts[i])) for i in (0, 1))


def _paint(canvas: np.ndarray, thing: Thing, x: float, y: float, tilt: float, unit: int, colour: np.ndarray) -> None:
    """Blend one object into `canvas` (H, W, 3) float32. Changes only the bounding box of the object."""
    height, width = canvas.shape[:2]
    radius = SIZES[thing.size] * unit
    reach = 1.25 * radius + 1
    left, right = max(0, int(x - reach)), min(width, int(x + reach) + 2)
    top, bottom = max(0, int(y - reach)), min(height, int(y + reach) + 2)
    across = ((np.arange(left, right, dtype=np.float32) + 0.5 - x) / radius)[None, :]
    down = ((np.arange(top, bottom, dtype=np.float32) + 0.5 - y) / radius)[:, None]
    cos, sin = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
    distance = _signed_distance(thing.shape, across * cos + down * sin, down * cos - across * sin)
    coverage = np.clip(0.5 - distance * np.float32(radius), 0, 1)[:, :, None]
    window = canvas[top:bottom, left:right]
    window += coverage * (colour - window)


def _signed_distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the distance to the outline of a shape of radius 1 at points (x, y), y downwards. Negative inside."""
    if shape == "circle":
        return np.sqrt(x * x + y * y) - 1
    if shape == "ring":
        return np.abs(np.sqrt(x * x + y * y) - 0.76) - 0.24
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.88
    if shape == "triangle":
        return np.maximum(y - 0.7, 0.866 * np.abs(x) - 0.5 * y - 0.62)
    if shape == "cross":
        long, wide = np.maximum(np.abs(x), np.abs(y)), np.minimum(np.abs(x), np.abs(y))
        return np.maximum(long - 1, wide - 0.3)
    fifth = 2 * np.pi / 5
    angle = np.abs((np.arctan2(x, -y) + fifth / 2) % fifth - fifth / 2)
    length = np.sqrt(x * x + y * y)
    # In folded polar coordinates, one edge of the star runs from its tip (1.15, 0) to the notch.
    notch_x, notch_y = 0.46 * np.cos(fifth / 2), 0.46 * np.sin(fifth / 2)
    edge = np.hypot(1.15 - notch_x, notch_y)
    return ((length * np.cos(angle) - 1.15) * notch_y + length * np.sin(angle) * (1.15 - notch_x)) / edge


def _shade(colour: tuple[int, int, int], shade: np.ndarray) -> np.ndarray:
    return np.asarray(colour, np.float32) + shade.astype(np.float32)


def with_article(words: str) -> str:
    """Return the words after "a" or "an"."""
    return ("an " if words[0] in "aeiou" else "a ") + words
