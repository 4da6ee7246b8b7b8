"""One question to a dataset's published index."""

from pathlib import Path

from laion_assets.dataset.dataset import Dataset
from laion_assets.search.contact_sheet import contact_sheet
from laion_assets.search.query import Searcher, SearchResult
from laion_assets.store.store import Store


def answer(dataset: Dataset, text: str, k: int, modality: str = "image") -> list[SearchResult]:
    """The k samples nearest to a text, best first. Raises IncompleteError where there is no index, and QueryError."""
    return Searcher(dataset, Store.of(dataset)).search(text=text, k=k, modality=modality)


def answer_with_sheet(dataset: Dataset, text: str, k: int, sheet: Path, modality: str = "image") -> list[SearchResult]:
    """As `answer`, and a contact sheet of the pictures (PNG) is written to `sheet`."""
    searcher = Searcher(dataset, Store.of(dataset))
    results = searcher.search(text=text, k=k, modality=modality)
    tiles = [(searcher.picture(result), [f"{result.similarity:.3f}", result.caption]) for result in results]
    sheet.parent.mkdir(parents=True, exist_ok=True)
    sheet.write_bytes(contact_sheet(f"“{text}”", tiles))
    return results
