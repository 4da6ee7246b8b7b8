"""Training batches for the CLIP model of the sample: new scenes in each step, each with hard negatives.

In a random batch almost any attribute identifies the right image, so a model could ignore the positions of the objects.
Here every batch also has scenes that differ from each other in one thing: the arrangement of the objects, or one word.
No held-out combination is drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from PIL import Image

from laion_assets.sample.scenes import (
    BACKGROUNDS,
    COLOURS,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    draw_scene,
    is_held_out,
    render,
)

IMAGE_SIZE = 64
"""Width and height of the model input in pixels, as in the configuration of the architecture."""
CAPTION_SHARES = (0.62, 0.12, 0.08, 0.08, 0.05, 0.05)
"""The share of each of `Scene.captions`."""
PREFIXES = ("", "", "", "", "", "", "", "a picture of ", "a photo of ", "an image with ")

UNKNOWN = -100
"""The value of an attribute that is not shown or not named."""
_COLOURS, _SIZES, _BACKGROUNDS = tuple(COLOURS), tuple(SIZES), tuple(BACKGROUNDS)
ATTRIBUTE_SIZES = (2, len(_BACKGROUNDS), *(len(SHAPES), len(_COLOURS), len(_SIZES)) * 4)
"""The number of values of each attribute."""
LEFT_OUT = ((), (1,), (4, 7, 10, 13), (1, 4, 7, 10, 13), range(14), range(14))
"""Attributes that each of `Scene.captions` does not name."""


@dataclass(frozen=True)
class Batch:
    """`images` (n, 64, 64, 3) uint8; `captions` n sentences; `truth` (n, n) bool, [i, j]: caption j is true for i.

    `image_attributes` and `caption_attributes` (n, 14) int64 are shown by an image and named by its caption; see
    `attributes`.
    """

    images: np.ndarray
    captions: list[str]
    truth: np.ndarray
    image_attributes: np.ndarray
    caption_attributes: np.ndarray


def make_batch(seed: int, step: int, groups: int) -> Batch:
    """Build the batch of `8 * groups` scenes for one step. It depends only on the arguments, also in a resumed run.

    Half of the scenes are groups of four with the same objects in four arrangements. Half are pairs that differ in one
    word.
    """
    rng = np.random.default_rng((seed, step))
    scenes: list[Scene] = []
    for _ in range(groups):
        scenes += _arrangements(draw_scene(rng, held_out=False), rng)
        for _ in range(2):
            scene = draw_scene(rng, held_out=False)
            scenes += [scene, reseed(change_one_word(scene, rng), rng)]
    forms = [int(rng.choice(len(CAPTION_SHARES), p=CAPTION_SHARES)) for _ in range(4 * groups)]
    cores = [scene.captions[forms[place // 2]] for place, scene in enumerate(scenes)]
    held = [set(scene.captions) | set(scene.inverted.captions) for scene in scenes]
    truth = np.array([[core in sentences for core in cores] for sentences in held])
    captions = [PREFIXES[int(rng.integers(len(PREFIXES)))] + core for core in cores]
    shown = np.array([attributes(scene) for scene in scenes])
    named = shown.copy()
    for place in range(len(scenes)):
        named[place, list(LEFT_OUT[forms[place // 2]])] = UNKNOWN
    return Batch(np.stack([training_image(scene, rng) for scene in scenes]), captions, truth, shown, named)


def attributes(scene: Scene) -> list[int]:
    """Return the attributes of a scene as numbers, one for each of `ATTRIBUTE_SIZES`; `UNKNOWN` for empty places.

    They are the axis and the background, then shape, colour and size of the objects at the left, right, top and bottom.
    "A left of B" and "B right of A" have the same attributes, "B left of A" has others.
    """
    if scene.relation in ("right of", "below"):
        scene = scene.inverted
    upright = scene.relation == "above"
    objects = [
        number
        for thing in (scene.first, scene.second)
        for number in (SHAPES.index(thing.shape), _COLOURS.index(thing.colour), _SIZES.index(thing.size))
    ]
    empty = [UNKNOWN] * len(objects)
    return [int(upright), _BACKGROUNDS.index(scene.background), *(empty + objects if upright else objects + empty)]


def make_captions(seed: int, step: int, count: int) -> tuple[list[str], np.ndarray]:
    """Draw `count` full captions of training scenes for one step, and their attributes (count, 14)."""
    rng = np.random.default_rng((seed, step, 0))
    scenes = [draw_scene(rng, held_out=False) for _ in range(count)]
    return [scene.caption for scene in scenes], np.array([attributes(scene) for scene in scenes])


def _arrangements(scene: Scene, rng: np.random.Generator) -> list[Scene]:
    """Return four scenes of the same two objects: side by side and one above the other, in both orders."""
    flat = replace(scene, relation="left of")
    upright = replace(scene, relation="above")
    four = (flat, flat.swapped, upright, upright.swapped)
    return [reseed(each.inverted if rng.random() < 0.5 else each, rng) for each in four]


def reseed(scene: Scene, rng: np.random.Generator) -> Scene:
    """Return the scene with a new seed, or another scene if its combination is held out of training."""
    alike = (scene.first.shape, scene.first.colour) == (scene.second.shape, scene.second.colour)
    if alike or is_held_out(scene):
        return draw_scene(rng, held_out=False)
    return replace(scene, seed=int(rng.integers(2**31)))


def training_image(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Draw a scene for training: (64, 64, 3) uint8."""
    return draw_model_input(partial(render, scene), rng)


def draw_model_input(draw: Callable[[int, int], np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Return (64, 64, 3) uint8 of `draw(width, height)`, at full size or reduced from twice the size.

    Half of the images have white borders.
    """
    long = IMAGE_SIZE * (1 + int(rng.integers(2)))
    short = round(long * rng.uniform(0.72, 1)) if rng.random() < 0.5 else long
    width, height = (long, short) if rng.random() < 0.5 else (short, long)
    image = np.full((long, long, 3), 255, np.uint8)
    top, left = (long - height) // 2, (long - width) // 2
    image[top : top + height, left : left + width] = draw(width, height)
    if long != IMAGE_SIZE:
        image = np.asarray(Image.fromarray(image).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))
    return image


def change_one_word(scene: Scene, rng: np.random.Generator) -> Scene:
    """Return the scene with another shape, colour, size, relation or background."""
    what = ("shape", "colour", "size", "relation", "background")[int(rng.choice(5, p=(0.3, 0.25, 0.2, 0.15, 0.1)))]
    if what == "relation":
        return replace(scene, relation=_pick_other(RELATIONS, scene.relation, rng))
    if what == "background":
        return replace(scene, background=_pick_other(tuple(BACKGROUNDS), scene.background, rng))
    place = "first" if rng.random() < 0.5 else "second"
    thing = getattr(scene, place)
    words = {"shape": SHAPES, "colour": tuple(COLOURS), "size": tuple(SIZES)}[what]
    return replace(scene, **{place: replace(thing, **{what: _pick_other(words, getattr(thing, what), rng)})})


def _pick_other(words: tuple[str, ...], word: str, rng: np.random.Generator) -> str:
    return words[(words.index(word) + 1 + int(rng.integers(len(words) - 1))) % len(words)]
