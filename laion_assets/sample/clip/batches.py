"""Training batches for the sample's CLIP: fresh scenes each step, each beside hard negatives of it.

In a random batch nearly any attribute tells the right picture from the others, so a model can score well without
looking at which object is on which side. Here every scene stands beside some that differ from it in one
thing: how its objects are arranged, or one word. No held-out combination is ever drawn.
"""

from dataclasses import dataclass, replace

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
"""Side of the model's input in pixels, as in the architecture's configuration."""
_CAPTION_SHARES = (0.62, 0.12, 0.08, 0.08, 0.05, 0.05)
"""How often each of `Scene.captions` is used."""
PREFIXES = ("", "", "", "", "", "", "", "a picture of ", "a photo of ", "an image with ")

UNKNOWN = -100
"""An attribute that is not there or not named."""
_COLOURS, _SIZES, _BACKGROUNDS = tuple(COLOURS), tuple(SIZES), tuple(BACKGROUNDS)
ATTRIBUTE_SIZES = (2, len(_BACKGROUNDS), *(len(SHAPES), len(_COLOURS), len(_SIZES)) * 4)
"""How many values each attribute has."""
_LEFT_OUT = ((), (1,), (4, 7, 10, 13), (1, 4, 7, 10, 13), range(14), range(14))
"""Attributes that each of `Scene.captions` leaves out."""


@dataclass(frozen=True)
class Batch:
    """`pictures` (n, 64, 64, 3) uint8; `captions` n sentences; `truth` (n, n) bool, [i, j] caption j holds of i.

    `seen` and `said` (n, 14) int64 are the attributes that a picture shows and its caption names; see `attributes`.
    """

    pictures: np.ndarray
    captions: list[str]
    truth: np.ndarray
    seen: np.ndarray
    said: np.ndarray


def make_batch(seed: int, step: int, groups: int) -> Batch:
    """The batch of `8 * groups` scenes for one step; a function of its arguments, so a resumed run sees the same.

    Half of it are fours with the same objects in the four arrangements, half are twos that differ in one word.
    """
    rng = np.random.default_rng((seed, step))
    scenes: list[Scene] = []
    for _ in range(groups):
        scenes += _arrangements(draw_scene(rng, held_out=False), rng)
        for _ in range(2):
            scene = draw_scene(rng, held_out=False)
            scenes += [scene, _seen(_one_word_changed(scene, rng), rng)]
    forms = [int(rng.choice(len(_CAPTION_SHARES), p=_CAPTION_SHARES)) for _ in range(4 * groups)]
    cores = [scene.captions[forms[place // 2]] for place, scene in enumerate(scenes)]
    held = [set(scene.captions) | set(scene.inverted.captions) for scene in scenes]
    truth = np.array([[core in sentences for core in cores] for sentences in held])
    captions = [PREFIXES[int(rng.integers(len(PREFIXES)))] + core for core in cores]
    seen = np.array([attributes(scene) for scene in scenes])
    said = seen.copy()
    for place in range(len(scenes)):
        said[place, list(_LEFT_OUT[forms[place // 2]])] = UNKNOWN
    return Batch(np.stack([training_picture(scene, rng) for scene in scenes]), captions, truth, seen, said)


def attributes(scene: Scene) -> list[int]:
    """Numbers of the scene's words, one for each of `ATTRIBUTE_SIZES`; `UNKNOWN` for the two places that are empty.

    First axis and background, then shape, colour and size of what is at the left, the right, the top and the bottom:
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
    """`count` full captions of scenes that training may show, and their attributes (count, 14), for one step."""
    rng = np.random.default_rng((seed, step, 0))
    scenes = [draw_scene(rng, held_out=False) for _ in range(count)]
    return [scene.caption for scene in scenes], np.array([attributes(scene) for scene in scenes])


def _arrangements(scene: Scene, rng: np.random.Generator) -> list[Scene]:
    """Four scenes of the same two objects: beside and above each other, either way round, told from either object."""
    flat = replace(scene, relation="left of")
    upright = replace(scene, relation="above")
    four = (flat, flat.swapped, upright, upright.swapped)
    return [_seen(each.inverted if rng.random() < 0.5 else each, rng) for each in four]


def _seen(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene, drawn anew, or another one where its combination is held out of training."""
    alike = (scene.first.shape, scene.first.colour) == (scene.second.shape, scene.second.colour)
    if alike or is_held_out(scene):
        return draw_scene(rng, held_out=False)
    return replace(scene, seed=int(rng.integers(2**31)))


def training_picture(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """(64, 64, 3) uint8: drawn at once or reduced bicubically from twice the size, some with a white letterbox."""
    long = IMAGE_SIZE * (1 + int(rng.integers(2)))
    short = round(long * rng.uniform(0.72, 1)) if rng.random() < 0.5 else long
    width, height = (long, short) if rng.random() < 0.5 else (short, long)
    picture = np.full((long, long, 3), 255, np.uint8)
    top, left = (long - height) // 2, (long - width) // 2
    picture[top : top + height, left : left + width] = render(scene, width, height)
    if long != IMAGE_SIZE:
        picture = np.asarray(Image.fromarray(picture).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))
    return picture


def _one_word_changed(scene: Scene, rng: np.random.Generator) -> Scene:
    what = ("shape", "colour", "size", "relation", "background")[int(rng.choice(5, p=(0.3, 0.25, 0.2, 0.15, 0.1)))]
    if what == "relation":
        return replace(scene, relation=_another(RELATIONS, scene.relation, rng))
    if what == "background":
        return replace(scene, background=_another(tuple(BACKGROUNDS), scene.background, rng))
    place = "first" if rng.random() < 0.5 else "second"
    thing = getattr(scene, place)
    words = {"shape": SHAPES, "colour": tuple(COLOURS), "size": tuple(SIZES)}[what]
    return replace(scene, **{place: replace(thing, **{what: _another(words, getattr(thing, what), rng)})})


def _another(words: tuple[str, ...], word: str, rng: np.random.Generator) -> str:
    return words[(words.index(word) + 1 + int(rng.integers(len(words) - 1))) % len(words)]
