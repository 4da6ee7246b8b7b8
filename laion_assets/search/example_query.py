"""An example query on committed indices: the caption of one of the images, and its nearest images.

The query is a stored vector of the text embeddings, so that no model is loaded. Captions and images that may
not be published (`may_be_published`) are neither used nor shown.
"""

import bisect
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IntegrityError
from laion_assets.search.contact_sheet import contact_sheet
from laion_assets.search.query import Searcher
from laion_assets.search.results.safety import may_be_published
from laion_assets.search.results.safety_model import SafetyModel
from laion_assets.stages.knn_indices.handle import KNN_INDICES
from laion_assets.stages.knn_indices.inputs import ClipEmbeddings
from laion_assets.store.store import Store
from laion_assets.tables.vector_file import DTYPE

if TYPE_CHECKING:
    import numpy as np

_CANDIDATES = 1_000
"""Rows that are looked at to find a query, at most."""
_MIN_CHARS = 12
"""Characters of a caption that says something."""
_COLUMNS = 4


@dataclass(frozen=True)
class Example:
    """A caption (untrusted text), its nearest images as (similarity, caption), and their contact sheet (JPEG)."""

    caption: str
    results: list[tuple[float, str]]
    sheet: bytes


def example_query(dataset: Dataset, store: Store, k: int = 8) -> Example | None:
    """Search the images nearest to the first suitable caption. Returns None if there is no caption or image to show.

    Raises IntegrityError and ModelError as a search does.
    """
    with Searcher(dataset, store, safety=SafetyModel.of(dataset)) as searcher:
        rows = min(searcher.manifest.counts.rows_out, _CANDIDATES)
        for row in range(rows):
            fields = searcher.fields(row)
            caption = fields["caption"] or ""
            if may_be_published(fields, dataset.search_report.show_untagged) and len(caption) >= _MIN_CHARS:
                break
        else:
            return None
        found = searcher.search(vector=_text_vector(searcher, row), k=4 * k)
        shown = searcher.safe(found)[:k]
        tiles = [(searcher.read_image(result), [f"{result.similarity:.3f}", result.caption]) for result in shown]
    if not tiles:
        return None
    sheet = contact_sheet(f"“{caption}”", tiles, _COLUMNS, "JPEG")
    return Example(caption, [(result.similarity, result.caption) for result in shown], sheet)


def _text_vector(searcher: Searcher, row: int) -> "np.ndarray":
    """Read the vector of one caption, (width,) float16, without the rest of its file. Raises IntegrityError."""
    import numpy as np

    store, layout, counts = searcher.store, searcher.dataset.layout, searcher.details.rows
    starts = list(itertools.accumulate(counts, initial=0))
    place = bisect.bisect_right(starts, row) - 1
    path = ClipEmbeddings.path(layout, layout.embedding_numbers[place], "text_emb")
    with store.open(path) as file:
        np.lib.format.read_magic(file)
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if shape != (counts[place], searcher.details.width) or is_fortran or dtype != np.dtype(DTYPE):
            raise IntegrityError(
                f"{store.address(path)} changed after the indices were built. Materialize {KNN_INDICES} again."
            )
        file.seek((row - starts[place]) * shape[1] * dtype.itemsize, 1)
        return np.frombuffer(file.read(shape[1] * dtype.itemsize), dtype)
