"""The captions of the sample: mostly plain descriptions of the image, and unusual texts as in real alt attributes."""

import html

import numpy as np

from laion_assets.sample.scenes import Scene, Thing

LONGEST_CAPTION_CHARS = 61_192
"""The length of the longest caption of LAION-400M, by its published statistics."""
_ODD_SHARE = 0.08
_PLAIN_SHARES = (0.7, 0.14, 0.08, 0.08)
"""The share of each of `Scene.captions` in the crawl."""

_GERMAN = {"red": "roter", "orange": "oranger", "yellow": "gelber", "green": "grüner", "cyan": "türkiser"}
_GERMAN |= {"blue": "blauer", "purple": "violetter", "pink": "rosa"}
_GERMAN_SHAPES = {"circle": "Kreis", "square": "Quadrat", "triangle": "Dreieck", "star": "Stern", "cross": "Kreuz"}
_JAPANESE = {"red": "赤い", "orange": "橙色の", "yellow": "黄色い", "green": "緑の", "cyan": "水色の"}
_JAPANESE |= {"blue": "青い", "purple": "紫の", "pink": "桃色の"}
_JAPANESE_SHAPES = {"circle": "円", "square": "四角", "triangle": "三角", "star": "星", "cross": "十字", "ring": "輪"}
_RUSSIAN_SHAPES = {"circle": "круг", "square": "квадрат", "triangle": "треугольник", "star": "звезда"}
_RUSSIAN_SHAPES |= {"cross": "крест", "ring": "кольцо"}


def write_caption(scene: Scene, rng: np.random.Generator, colours: bool = True) -> str | None:
    """Return a caption that is true for the scene, or None for a row without a caption.

    `colours` False omits colour words.
    """
    if not colours:
        first, second = (f"a {thing.size} {thing.shape}" for thing in (scene.first, scene.second))
        return f"black and white picture of {first} {scene.relation} {second}"
    if rng.random() >= _ODD_SHARE:
        return scene.captions[int(rng.choice(len(_PLAIN_SHARES), p=_PLAIN_SHARES))]
    odd = _odd_captions(scene)
    return odd[int(rng.integers(len(odd)))]


def longest_caption(scene: Scene) -> str:
    """Return a caption of `LONGEST_CAPTION_CHARS` characters, as if a shop page were in the alt text."""
    sentence = f"{scene.caption} | free shipping | "
    return (sentence * (LONGEST_CAPTION_CHARS // len(sentence) + 1))[:LONGEST_CAPTION_CHARS]


def _odd_captions(scene: Scene) -> tuple[str | None, ...]:
    first, second, full = scene.first, scene.second, scene.caption
    return (
        None,
        f'"{first.colour} {first.shape}" {scene.relation} "{second.colour} {second.shape}"',
        f'{full}, 12" print',
        f"{full} | Stock Photo | 10,000+ pictures",
        f"a {first.words}\n{scene.relation} a {second.words}",
        html.escape(f"{first.colour} {first.shape} & {second.colour} {second.shape} <{scene.relation}>"),
        f"<b>{full}</b><script>alert('{first.shape}')</script>",
        f"{full} " + "nice picture " * 150,
        f"{_german(first)} und {_german(second)}",
        f"{_japanese(second)}と{_japanese(first)}の絵",
        f"{_RUSSIAN_SHAPES[first.shape]} и {_RUSSIAN_SHAPES[second.shape]}, картинка",
        f"صورة {first.shape} و {second.shape}",
        f"\u202e{full}\u202c",
        f"🔴🔷 {full.upper()} ✨",
        f"{scene.captions[3]}; 50 % off",
        f"  {scene.captions[1]}\t",
    )


def _german(thing: Thing) -> str:
    return f"{_GERMAN[thing.colour]} {_GERMAN_SHAPES.get(thing.shape, 'Ring')}"


def _japanese(thing: Thing) -> str:
    return _JAPANESE[thing.colour] + _JAPANESE_SHAPES[thing.shape]
