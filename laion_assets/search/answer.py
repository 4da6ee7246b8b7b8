"""Run one query against the indices of a dataset."""

from pathlib import Path

from laion_assets.dataset.dataset import Dataset
from laion_assets.search.contact_sheet import contact_sheet
from laion_assets.search.query import Searcher, SearchResult
from laion_assets.store.store import Store

Query = str | Path
"""A text, or the path of an image file."""


def answer(dataset: Dataset, query: Query, k: int, modality: str = "image") -> list[SearchResult]:
    """Return the k samples nearest to a text or to the image in a file, best first.

    Raises IncompleteError without an index, QueryError, and OSError for a file that cannot be read.
    """
    return _search(Searcher(dataset, Store.of(dataset)), query, k, modality)


def answer_with_sheet(
    dataset: Dataset, query: Query, k: int, sheet: Path, modality: str = "image"
) -> list[SearchResult]:
    """Like `answer`, and also write a contact sheet of the images (PNG) to `sheet`."""
    searcher = Searcher(dataset, Store.of(dataset))
    results = _search(searcher, query, k, modality)
    tiles = [(searcher.read_image(result), [f"{result.similarity:.3f}", result.caption]) for result in results]
    sheet.parent.mkdir(parents=True, exist_ok=True)
    sheet.write_bytes(contact_sheet(query.name if isinstance(query, Path) else f"“{query}”", tiles))
    return results


def _search(searcher: Searcher, query: Query, k: int, modality: str) -> list[SearchResult]:
    if isinstance(query, str):
        return searcher.search(text=query, k=k, modality=modality)
    with query.open("rb") as file:
        image = file.read(searcher.dataset.search.max_image_bytes + 1)  # a larger one is refused by its size
    return searcher.search(image=image, k=k, modality=modality)
