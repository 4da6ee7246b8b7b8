"""The pages of the sample site: the URL, the caption and the response of each.

Page i depends only on i. So the site, the CSVs and a test agree in three processes without a shared file, and a smaller
crawl is the beginning of the full one.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from laion_assets.reasons import Reason
from laion_assets.sample.captions import write_caption
from laion_assets.sample.faults import FAULT_BY_KIND, FAULTS
from laion_assets.sample.originals import FORMATS
from laion_assets.sample.scenes import Scene, Thing, draw_scene

PAGES = 5_280
"""Unique (url, caption) pairs of the full crawl."""
HOSTS = 40
BUSY_HOST = 7
"""The number of the busy host: `photos-07.test` has `BUSY_SHARE` of the pages. The others share the rest."""
BUSY_SHARE = 0.3
SPACED_URLS = 8
"""The number of pages whose URL has spaces."""
TWICE_CAPTIONED = 60
"""The number of pages that use the URL of another page with another caption. They are not duplicates."""
_POPULAR_SHARE = 0.03
_POPULAR = (("circle", "red"), ("square", "blue"))
_SEED = 20_210_105


@dataclass(frozen=True)
class Page:
    """One unique (url, caption). `kind` is a format of `FORMATS` or a fault of `FAULTS`, `image` the page drawn there.

    `caption` is None for a row without caption. `size` is (width, height) of the original in pixels.
    """

    index: int
    kind: str
    url: str
    caption: str | None
    scene: Scene
    size: tuple[int, int]
    image: int

    @property
    def expected(self) -> str:
        """The reason of the row of this page in a shard, `success` for an image (`laion_assets.reasons`)."""
        fault = FAULT_BY_KIND.get(self.kind)
        return (fault.reason if fault else Reason.SUCCESS).value


def host_name(number: int) -> str:
    """Return a host name such as `photos-07.test`: a reserved name (RFC 2606), never looked up in DNS."""
    return f"photos-{number:02d}.test"


@lru_cache(maxsize=4)
def crawl_pages(pages: int = PAGES) -> tuple[Page, ...]:
    """Return the first `pages` pages, in order of their index."""
    if not 0 < pages <= PAGES:
        raise ValueError(f"pages is {pages}: between 1 and {PAGES}.")
    built: list[Page] = []
    for index, kind in enumerate(_shuffle_kinds()[:pages]):
        built.append(_build_page(index, kind, built))
    return tuple(built)


def _shuffle_kinds() -> list[str]:
    """Return the kind of each page, shuffled: formats, faults, and two kinds of JPEG pages with special URLs."""
    kinds = [fault.kind for fault in FAULTS for _ in range(fault.pages)]
    kinds += [name for name, image_format in FORMATS.items() for _ in range(image_format.pages)]
    kinds += ["spaced"] * SPACED_URLS + ["twice"] * TWICE_CAPTIONED
    kinds += ["jpeg"] * (PAGES - len(kinds))
    order = np.random.default_rng(_SEED).permutation(PAGES)
    return [kinds[place] for place in order.tolist()]


def _build_page(index: int, kind: str, earlier: list[Page]) -> Page:
    rng = np.random.default_rng((_SEED, index))
    scene = _popular_scene(rng) if rng.random() < _POPULAR_SHARE else draw_scene(rng)
    host = BUSY_HOST if rng.random() < BUSY_SHARE else int(rng.integers(HOSTS))
    size = original_size(rng)
    if kind == "twice":
        plain = [page for page in earlier[-200:] if page.kind == "jpeg" and page.image == page.index]
        if plain:
            other = plain[int(rng.integers(len(plain)))]
            return replace(other, index=index, caption=f"{other.scene.inverted.caption}, seen again")
    extension = FORMATS[kind].media_type.split("/")[1].replace("jpeg", "jpg") if kind in FORMATS else "jpg"
    name = f"my photo {index:06d}" if kind == "spaced" else f"{index:06d}"
    url = f"http://{host_name(host)}/albums/{index % 97:02d}/{name}.{extension}"
    if kind in FAULT_BY_KIND and FAULT_BY_KIND[kind].url:
        url = FAULT_BY_KIND[kind].url.format(index=f"{index:06d}", host=f"{host:02d}")
    kind = "jpeg" if kind in ("spaced", "twice") else kind
    caption = write_caption(scene, rng, colours=kind != "grey_jpeg")
    return Page(index, kind, url, caption, scene, size, image=index)


def _popular_scene(rng: np.random.Generator) -> Scene:
    """Draw a red circle and a blue square, so that the query of the documentation has several results."""
    scene = draw_scene(rng)
    one, other = (_POPULAR[place] for place in rng.permutation(2).tolist())
    return replace(scene, first=Thing(*one, scene.first.size), second=Thing(*other, scene.second.size))


def original_size(rng: np.random.Generator) -> tuple[int, int]:
    """Draw (width, height) in pixels: the longer one 220 to 400, a quarter square, the others up to 4:3 or 3:4."""
    long = int(rng.integers(220, 401))
    short = long if rng.random() < 0.25 else round(long * float(rng.uniform(0.75, 1)))
    return (long, short) if rng.random() < 0.7 else (short, long)
