"""Run one query against the indices of a dataset."""

from pathlib import Path

from laion_assets.dataset.dataset import Dataset
from laion_assets.search.contact_sheet import contact_sheet
from laion_assets.search.query import Searcher, SearchResult
from laion_assets.store.store import Store


def answer(dataset: Dataset, text: str, k: int, modality: str = "image") -> list[SearchResult]:
    """Return the k samples nearest to a text, best first. Raises IncompleteError without an index, and QueryError."""
    return Searcher(dataset, Store.of(dataset)).search(text=text, k=k, modality=modality)


def answer_with_sheet(dataset: Dataset, text: str, k: int, sheet: Path, modality: str = "image") -> list[SearchResult]:
    """Like `answer`, and also write a contact sheet of the images (PNG) to `sheet`."""
    searcher = Searcher(dataset, Store.of(dataset))
    results = searcher.search(text=text, k=k, modality=modality)
    tiles = [(searcher.read_image(result), [f"{result.similarity:.3f}", result.caption]) for result in results]
    sheet.parent.mkdir(parents=True, exist_ok=True)
    sheet.write_bytes(contact_sheet(f"“{text}”", tiles))
    return results
