"""precision@10 of short queries over the images of the sample's crawl.

The images show two objects each. A result counts if one of its objects has every word of the query. Images that the
site serves without colours have no object of a colour.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from laion_assets.sample.clip.short_queries import PLAIN_QUERIES, Query
from laion_assets.sample.pages import Page, crawl_pages
from laion_assets.sample.scenes import Thing

if TYPE_CHECKING:
    import numpy as np

TOP = 10


def crawl_images() -> list[Page]:
    """Return the pages of the crawl with an image of their own that can be downloaded."""
    return [page for page in crawl_pages() if page.expected == "success" and page.image == page.index]


def queries_by_kind() -> dict[str, list[tuple[str, Query]]]:
    """Return every text of every query without a size, by what it names: an object, a shape or a colour."""
    kinds: dict[str, list[tuple[str, Query]]] = {"object": [], "shape": [], "colour": []}
    for query in PLAIN_QUERIES:
        kind = "colour" if query.shape is None else "shape" if query.colour is None else "object"
        kinds[kind] += [(text, query) for text in query.texts]
    return kinds


def query_precisions(similarity: "np.ndarray", queries: Sequence[Query], pages: Sequence[Page]) -> list[float]:
    """Return precision@10 of each query, from (queries, pages) similarities."""
    things = [_shown_things(page) for page in pages]
    found = (-similarity).argsort(axis=1, kind="stable")[:, :TOP].tolist()
    return [
        sum(query.is_true(things[place]) for place in places) / TOP
        for query, places in zip(queries, found, strict=True)
    ]


def summarize_precisions(precisions: Sequence[float]) -> dict[str, float]:
    """Return mean and minimum over the queries, and the share of queries with at least 0.9."""
    return {
        "queries": len(precisions),
        "precision_at_10": round(sum(precisions) / len(precisions), 4),
        "minimum": min(precisions),
        "at_least_0.9": round(sum(each >= 0.9 for each in precisions) / len(precisions), 4),
    }


def _shown_things(page: Page) -> tuple[Thing, ...]:
    things = (page.scene.first, page.scene.second)
    return tuple(replace(thing, colour="grey") for thing in things) if page.kind == "grey_jpeg" else things
