"""Training batches with short queries: "a red circle", "circle", "something green".

In scenes of two objects the words of one object are rare captions, so a model learns little about which colour belongs
to which shape. Here every batch has these queries, each with all of its right images, and scenes whose objects have
exchanged their colours or shapes. A quarter of the images have one or three objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from laion_assets.sample.clip.batches import (
    CAPTION_SHARES,
    LEFT_OUT,
    PREFIXES,
    UNKNOWN,
    attributes,
    change_one_word,
    draw_model_input,
    reseed,
)
from laion_assets.sample.clip.object_sets import (
    ObjectSet,
    draw_object_set,
    render_object_set,
    true_sentences,
    write_captions,
)
from laion_assets.sample.scenes import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    draw_scene,
    render,
    with_article,
)

GROUP_SIZE = 8
SIZED_QUERIES = 34
"""Queries with a size per batch, of 108."""
_SET_CAPTION_SHARES = (0.5, 0.25, 0.25)
"""The share of each sentence of `write_captions`."""


@dataclass(frozen=True)
class Query:
    """Words that an object must have. None is any word."""

    shape: str | None
    colour: str | None
    size: str | None

    def is_true(self, things: tuple[Thing, ...]) -> bool:
        """Whether one of the objects has all words of the query."""
        return any(
            self.shape in (None, thing.shape)
            and self.colour in (None, thing.colour)
            and self.size in (None, thing.size)
            for thing in things
        )

    @property
    def texts(self) -> tuple[str, ...]:
        """Ways to write the query, the usual one first."""
        if self.shape is None:
            return f"something {self.colour}", str(self.colour)
        words = " ".join(word for word in (self.size, self.colour, self.shape) if word)
        return with_article(words), words


PLAIN_QUERIES = tuple(
    Query(shape, colour, None) for shape in (None, *SHAPES) for colour in (None, *COLOURS) if shape or colour
)
"""Every shape, every colour, and every shape with every colour."""
_SIZED = tuple(Query(shape, colour, size) for shape in SHAPES for colour in (None, *COLOURS) for size in SIZES)


@dataclass(frozen=True)
class Texts:
    """Captions and short queries for n images, and what is true.

    `captions` n sentences; `truth` (n, n) bool, [i, j]: caption j is true for image i; `queries` m texts; `hits` (n, m)
    bool, [i, j]: query j is true for image i. `image_attributes` and `caption_attributes` (n, 14) as in a `Batch`.
    """

    captions: list[str]
    truth: np.ndarray
    queries: list[str]
    hits: np.ndarray
    image_attributes: np.ndarray
    caption_attributes: np.ndarray


def draw_group(rng: np.random.Generator) -> list[Scene | ObjectSet]:
    """Draw `GROUP_SIZE` images: two objects in two arrangements, two scenes with a hard negative each, one and three.

    Many have one colour twice: such an image is close to a query for that colour and another shape. No combination of
    objects and relation is drawn that is held out.
    """
    first, second, third = (draw_scene(rng, held_out=False) for _ in range(3))
    third = reseed(_repeat_word(third, rng), rng)
    return [
        first,
        reseed(first.swapped, rng),
        second,
        reseed(_exchange(second, rng), rng),
        third,
        reseed(change_one_word(third, rng), rng),
        draw_object_set(rng, 1),
        draw_object_set(rng, 3, one_colour=rng.random() < 0.5),
    ]


def make_query_batch(seed: int, step: int, groups: int) -> tuple[np.ndarray, Texts]:
    """Build the images (8 * groups, 64, 64, 3) uint8 of one step and their texts, from the arguments alone."""
    rng = np.random.default_rng((seed, step, 2))
    drawn = [draw_group(rng) for _ in range(groups)]
    images = np.stack([_render_input(image, rng) for group in drawn for image in group])
    return images, write_texts(drawn, rng)


def _render_input(image: Scene | ObjectSet, rng: np.random.Generator) -> np.ndarray:
    """Draw an image as the model's input: (64, 64, 3) uint8."""
    draw = render if isinstance(image, Scene) else render_object_set
    return draw_model_input(partial(draw, image), rng)  # type: ignore[arg-type]


def write_texts(groups: Sequence[Sequence[Scene | ObjectSet]], rng: np.random.Generator) -> Texts:
    """Write a caption for each image of the groups, and queries: all without a size, and some with one."""
    images = [image for group in groups for image in group]
    forms = [form for _ in groups for form in _draw_forms(rng)]
    captions = [_captions(image)[form] for image, form in zip(images, forms, strict=True)]
    truth = np.array([[caption in true for caption in captions] for true in map(_sentences, images)])
    shown = np.array([_attributes(image) for image in images])
    named = shown.copy()
    for place, (image, form) in enumerate(zip(images, forms, strict=True)):
        named[place, list(_find_unnamed(image, form))] = UNKNOWN
    sized = [_SIZED[place] for place in rng.permutation(len(_SIZED))[:SIZED_QUERIES].tolist()]
    queries = (*PLAIN_QUERIES, *sized)
    hits = np.array([[query.is_true(_things(image)) for query in queries] for image in images])
    prefixed = [_prefix(rng) + caption for caption in captions]
    return Texts(prefixed, truth, [_write_query(query, rng) for query in queries], hits, shown, named)


def _draw_forms(rng: np.random.Generator) -> list[int]:
    """Draw which sentence describes each image of a group; the two of a pair have the same form."""
    pairs = rng.choice(len(CAPTION_SHARES), size=3, p=CAPTION_SHARES).tolist()
    return [*(form for form in pairs for _ in range(2)), *rng.choice(3, size=2, p=_SET_CAPTION_SHARES).tolist()]


def _find_unnamed(image: Scene | ObjectSet, form: int) -> Sequence[int]:
    """Return the attributes that the caption does not name: of an object set, all but the background of a full one."""
    if isinstance(image, Scene):
        return LEFT_OUT[form]
    return (1,) if form or len(image.things) > 1 else ()


def _exchange(scene: Scene, rng: np.random.Generator) -> Scene:
    """Return the scene with the colours of its objects exchanged, or their shapes."""
    word = "colour" if rng.random() < 0.5 else "shape"
    first = replace(scene.first, **{word: getattr(scene.second, word)})
    return replace(scene, first=first, second=replace(scene.second, **{word: getattr(scene.first, word)}))


def _repeat_word(scene: Scene, rng: np.random.Generator) -> Scene:
    """Return the scene with both objects in the colour of the first, or sometimes both in its shape."""
    word = "colour" if rng.random() < 0.75 else "shape"
    return replace(scene, second=replace(scene.second, **{word: getattr(scene.first, word)}))


def _things(image: Scene | ObjectSet) -> tuple[Thing, ...]:
    return (image.first, image.second) if isinstance(image, Scene) else image.things


def _captions(image: Scene | ObjectSet) -> tuple[str, ...]:
    return image.captions if isinstance(image, Scene) else write_captions(image)


def _sentences(image: Scene | ObjectSet) -> set[str]:
    sentences = true_sentences(_things(image), image.background)
    if isinstance(image, Scene):
        sentences.update(image.captions, image.inverted.captions)
    return sentences


def _attributes(image: Scene | ObjectSet) -> list[int]:
    if isinstance(image, Scene):
        return attributes(image)
    return [UNKNOWN, tuple(BACKGROUNDS).index(image.background), *[UNKNOWN] * 12]


def _write_query(query: Query, rng: np.random.Generator) -> str:
    usual, bare = query.texts
    return _prefix(rng) + usual if rng.random() < 0.6 else bare


def _prefix(rng: np.random.Generator) -> str:
    return PREFIXES[int(rng.integers(len(PREFIXES)))]
