"""Training images of one or three objects, and the sentences that are true for the objects of an image."""

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from laion_assets.sample.scenes import (
    BACKGROUNDS,
    COLOURS,
    MAX_NOISE,
    SHAPES,
    SIZES,
    Thing,
    paint_objects,
    with_article,
)

_CELLS = ((0.26, 0.26), (0.74, 0.26), (0.26, 0.74), (0.74, 0.74))
"""Centres (x, y) of the cells in which three objects are placed, as fractions of width and height."""
_CELL_JITTER = 0.04


@dataclass(frozen=True)
class ObjectSet:
    """One or three objects without a named relation, on a background.

    `noise` is the amplitude of the pixel noise in grey levels. `seed` determines places, tilts, shades and noise.
    """

    things: tuple[Thing, ...]
    background: str
    noise: int
    seed: int


def draw_object_set(rng: np.random.Generator, count: int, one_colour: bool = False) -> ObjectSet:
    """Draw `count` random objects, one or three, that differ in shape or colour; with `one_colour`, in shape."""
    things: dict[tuple[str, str], Thing] = {}
    common = _pick(tuple(COLOURS), rng)
    while len(things) < count:
        shape, colour, size = (_pick(words, rng) for words in (SHAPES, tuple(COLOURS), tuple(SIZES)))
        colour = common if one_colour else colour
        things.setdefault((shape, colour), Thing(shape, colour, size))
    noise, seed = int(rng.integers(MAX_NOISE + 1)), int(rng.integers(2**31))
    return ObjectSet(tuple(things.values()), _pick(tuple(BACKGROUNDS), rng), noise, seed)


def render_object_set(objects: ObjectSet, width: int, height: int) -> np.ndarray:
    """Draw the objects: (height, width, 3) uint8, RGB. One object is anywhere, three are in three of four cells."""
    rng = np.random.default_rng(objects.seed)
    tilts = rng.uniform(-0.2, 0.2, size=len(objects.things)).tolist()
    if len(objects.things) == 1:
        places = [tuple(rng.uniform(0.25, 0.75, size=2).tolist())]
    else:
        cells = rng.permutation(len(_CELLS))[: len(objects.things)].tolist()
        moves = rng.uniform(-_CELL_JITTER, _CELL_JITTER, size=(len(cells), 2)).tolist()
        places = [(_CELLS[cell][0] + x, _CELLS[cell][1] + y) for cell, (x, y) in zip(cells, moves, strict=True)]
    placements = tuple((x, y, tilt) for (x, y), tilt in zip(places, tilts, strict=True))
    return paint_objects(objects.things, placements, objects.background, objects.noise, rng, width, height)


def write_captions(objects: ObjectSet) -> tuple[str, ...]:
    """Return true sentences about the objects, from the most to the least detailed."""
    short = [with_article(f"{thing.colour} {thing.shape}") for thing in objects.things]
    if len(short) == 1:
        full = f"a {objects.things[0].words}"
        return f"{full} on a {objects.background} background", full, short[0]
    return f"{short[0]}, {short[1]} and {short[2]}", f"{short[0]} and {short[1]}", short[0]


def true_sentences(things: tuple[Thing, ...], background: str) -> set[str]:
    """Return the sentences of the form of `write_captions` that are true for an image of these objects."""
    short = [with_article(f"{thing.colour} {thing.shape}") for thing in things]
    single = [*short, *(f"a {thing.words}" for thing in things)]
    pairs = (" and ".join(pair) for pair in permutations(short, 2))
    triples = (f"{one}, {two} and {three}" for one, two, three in permutations(short, 3))
    return {*single, *(f"{each} on a {background} background" for each in single), *pairs, *triples}


def _pick(words: tuple[str, ...], rng: np.random.Generator) -> str:
    return words[int(rng.integers(len(words)))]
