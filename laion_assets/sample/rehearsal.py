"""The crawl of the rehearsal: 1.5 rows for each shard of LAION-400M, each with a tiny image.

It runs the whole graph in its full layout (32, 41,455 and 400 partitions) on a small machine. Row i depends only on i.
A few hundred images are served under many URLs, because the rehearsal tests the graph and not the images. One row in
`GONE_EVERY` has no image.
"""

import csv
import io
from functools import lru_cache

import numpy as np

from laion_assets.sample.csv_files import COLUMNS, FILES, SEPARATOR
from laion_assets.sample.originals import jpeg
from laion_assets.sample.pages import HOSTS, host_name
from laion_assets.sample.scenes import Scene, draw_scene, render

ROWS = 62_000
"""Unique rows: one or two in each of the 41,455 shards."""
DUPLICATE_EVERY = 40
"""One row in this many is listed twice, the second time with a lower similarity."""
GONE_EVERY = 97
"""One row in this many is a 404."""
IMAGES = 400
SIDE = 64
"""Width and height of an image, in pixels."""
_SEED = 41_455


def build_url(row: int) -> str:
    """Return the URL of the image of a row."""
    return f"http://{host_name(row % HOSTS)}/small/{row:06d}.jpg"


@lru_cache(maxsize=IMAGES)
def choose_scene(image: int) -> Scene:
    """Return the scene of an image."""
    return draw_scene(np.random.default_rng((_SEED, image)))


@lru_cache(maxsize=IMAGES)
def _encode_image(image: int) -> bytes:
    return jpeg(render(choose_scene(image), SIDE, SIDE))


def render_image(row: int) -> bytes | None:
    """Return the JPEG that the site serves for a row, None for a 404."""
    return None if row >= ROWS or row % GONE_EVERY == 0 else _encode_image(row % IMAGES)


def is_listed_twice(row: int) -> bool:
    """Whether a row has a duplicate."""
    return row % DUPLICATE_EVERY == 0


@lru_cache(maxsize=1)
def csv_files() -> dict[str, bytes]:
    """Return the CSV files by path in the listing, in the dialect of pandas. Row i is in file i mod FILES."""
    return {f"2021-04-{number // 8:02d}/part-{number % 8:03d}.csv": _write_csv(number) for number in range(FILES)}


def _write_csv(number: int) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=SEPARATOR, quoting=csv.QUOTE_MINIMAL, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in range(number, ROWS, FILES):
        cells = [
            row,
            build_url(row),
            choose_scene(row % IMAGES).caption,
            SIDE,
            SIDE,
            "?",
            "UNLIKELY",
            0.3 + row % 100 / 1000,
        ]
        writer.writerow(cells)
        if is_listed_twice(row):
            writer.writerow([*cells[:-1], 0.29])
    return buffer.getvalue().encode()
