"""The rehearsal's crawl: as many rows as LAION-400M has shards, and half as many again, each a tiny picture.

It is there to run the whole graph in its full layout (32, 41,455 and 400 partitions) on a small machine. Row i is a
function of i alone. A few hundred pictures are served under many names, for the rehearsal is of the graph and not of
the pictures; one row in `GONE_EVERY` has none.
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
"""Unique rows: one or two in each of 41,455 shards."""
DUPLICATE_EVERY = 40
"""One row in so many is listed a second time, with a lower similarity."""
GONE_EVERY = 97
"""One row in so many is a 404."""
PICTURES = 400
SIDE = 64
"""Side of a picture, in pixels."""
_SEED = 41_455


def url_of(row: int) -> str:
    """The URL of a row's picture."""
    return f"http://{host_name(row % HOSTS)}/small/{row:06d}.jpg"


@lru_cache(maxsize=PICTURES)
def scene_of(picture: int) -> Scene:
    """What a picture shows."""
    return draw_scene(np.random.default_rng((_SEED, picture)))


@lru_cache(maxsize=PICTURES)
def _picture(picture: int) -> bytes:
    return jpeg(render(scene_of(picture), SIDE, SIDE))


def picture_of(row: int) -> bytes | None:
    """The JPEG that the site serves for a row, None for a 404."""
    return None if row >= ROWS or row % GONE_EVERY == 0 else _picture(row % PICTURES)


def is_listed_twice(row: int) -> bool:
    """Whether a row has a duplicate."""
    return row % DUPLICATE_EVERY == 0


@lru_cache(maxsize=1)
def csv_files() -> dict[str, bytes]:
    """The crawl's CSV files by their path below the listing, in pandas' dialect: row i is in file i mod FILES."""
    return {f"2021-04-{number // 8:02d}/part-{number % 8:03d}.csv": _csv_file(number) for number in range(FILES)}


def _csv_file(number: int) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=SEPARATOR, quoting=csv.QUOTE_MINIMAL, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in range(number, ROWS, FILES):
        cells = [
            row,
            url_of(row),
            scene_of(row % PICTURES).caption,
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
