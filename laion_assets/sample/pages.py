"""The pages of the sample's web: for each its URL, its caption and what the site answers.

Page i is a function of i alone, so that the site, the CSVs and a test in three processes agree without sharing a file,
and a smaller crawl is the beginning of the full one.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from laion_assets.reasons import Reason
from laion_assets.sample.captions import caption_of
from laion_assets.sample.faults import FAULT_BY_KIND, FAULTS
from laion_assets.sample.originals import FORMS
from laion_assets.sample.scenes import Scene, Thing, draw_scene

PAGES = 5_280
"""Unique (url, caption) pairs of the full crawl."""
HOSTS = 40
BUSY_HOST = 7
"""`photos-07.test` holds `BUSY_SHARE` of the pages; the other hosts share the rest."""
BUSY_SHARE = 0.3
SPACED_URLS = 8
"""Pages whose URL has spaces in it."""
TWICE_CAPTIONED = 60
"""Pages that name the picture of another page with another caption: not duplicates."""
_POPULAR_SHARE = 0.03
_POPULAR = (("circle", "red"), ("square", "blue"))
_SEED = 20_210_105


@dataclass(frozen=True)
class Page:
    """One unique (url, caption): `kind` is a form of `FORMS` or a fault of `FAULTS`, `picture` the page drawn there.

    `caption` None is a row without one. `size` is (width, height) of the original in pixels.
    """

    index: int
    kind: str
    url: str
    caption: str | None
    scene: Scene
    size: tuple[int, int]
    picture: int

    @property
    def expected(self) -> str:
        """The reason this page's row ends with in a shard, `success` for a picture (`laion_assets.reasons`)."""
        fault = FAULT_BY_KIND.get(self.kind)
        return (fault.reason if fault else Reason.SUCCESS).value


def host_name(number: int) -> str:
    """`photos-07.test`: a reserved name (RFC 2606), never asked of DNS."""
    return f"photos-{number:02d}.test"


@lru_cache(maxsize=4)
def crawl_pages(pages: int = PAGES) -> tuple[Page, ...]:
    """The first `pages` pages of the sample's web, in order of their index."""
    if not 0 < pages <= PAGES:
        raise ValueError(f"pages is {pages}: between 1 and {PAGES}.")
    made: list[Page] = []
    for index, kind in enumerate(_kinds()[:pages]):
        made.append(_page(index, kind, made))
    return tuple(made)


def _kinds() -> list[str]:
    """What each page is, shuffled once: forms, faults, and the two kinds that only their URL tells from a JPEG."""
    kinds = [fault.kind for fault in FAULTS for _ in range(fault.pages)]
    kinds += [form for form, (count, _, _) in FORMS.items() for _ in range(count)]
    kinds += ["spaced"] * SPACED_URLS + ["twice"] * TWICE_CAPTIONED
    kinds += ["jpeg"] * (PAGES - len(kinds))
    order = np.random.default_rng(_SEED).permutation(PAGES)
    return [kinds[place] for place in order.tolist()]


def _page(index: int, kind: str, earlier: list[Page]) -> Page:
    rng = np.random.default_rng((_SEED, index))
    scene = _popular_scene(rng) if rng.random() < _POPULAR_SHARE else draw_scene(rng)
    host = BUSY_HOST if rng.random() < BUSY_SHARE else int(rng.integers(HOSTS))
    size = original_size(rng)
    if kind == "twice":
        plain = [page for page in earlier[-200:] if page.kind == "jpeg" and page.picture == page.index]
        if plain:
            other = plain[int(rng.integers(len(plain)))]
            return replace(other, index=index, caption=f"{other.scene.inverted.caption}, seen again")
    extension = FORMS[kind][1].split("/")[1].replace("jpeg", "jpg") if kind in FORMS else "jpg"
    name = f"my photo {index:06d}" if kind == "spaced" else f"{index:06d}"
    url = f"http://{host_name(host)}/albums/{index % 97:02d}/{name}.{extension}"
    if kind in FAULT_BY_KIND and FAULT_BY_KIND[kind].url:
        url = FAULT_BY_KIND[kind].url.format(index=f"{index:06d}", host=f"{host:02d}")
    kind = "jpeg" if kind in ("spaced", "twice") else kind
    caption = caption_of(scene, rng, colours=kind != "grey_jpeg")
    return Page(index, kind, url, caption, scene, size, picture=index)


def _popular_scene(rng: np.random.Generator) -> Scene:
    """A red circle and a blue square in any relation: what the documentation searches for is there more than once."""
    scene = draw_scene(rng)
    one, other = (_POPULAR[place] for place in rng.permutation(2).tolist())
    return replace(scene, first=Thing(*one, scene.first.size), second=Thing(*other, scene.second.size))


def original_size(rng: np.random.Generator) -> tuple[int, int]:
    """(width, height): the longer side 220 to 400 pixels, a quarter square, the others up to 4 : 3 either way."""
    long = int(rng.integers(220, 401))
    short = long if rng.random() < 0.25 else round(long * float(rng.uniform(0.75, 1)))
    return (long, short) if rng.random() < 0.7 else (short, long)
