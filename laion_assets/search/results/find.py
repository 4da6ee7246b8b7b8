"""Find the results of a query vector: nearest rows, without hidden and filtered rows, near-duplicates collapsed."""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from laion_assets.search.index.index_version import IndexVersion
from laion_assets.search.results.duplicates import find_owners
from laion_assets.search.results.filters import Filters
from laion_assets.search.settings import SearchSettings

if TYPE_CHECKING:
    import numpy as np

_FIRST_DEPTH = 64
_GROWTH = 4
_MIN_ROWS = 16
"""Rows whose metadata is read at least in one step."""


@dataclass(frozen=True)
class Hit:
    """One result: the id in the index, the cosine similarity to the query, its metadata, the number of near-duplicates
    that were collapsed into it."""

    id: int
    similarity: float
    row: dict[str, Any]
    duplicates: int = 0


@dataclass
class Found:
    """A page of hits. `more` says whether a next page may have results.

    Of the rows that were looked at, `hidden` may not be shown, `filtered` fail a filter and `collapsed` are
    near-duplicates. The times are in milliseconds.
    """

    hits: list[Hit] = field(default_factory=list)
    more: bool = False
    hidden: int = 0
    filtered: int = 0
    collapsed: int = 0
    index_ms: float = 0.0
    metadata_ms: float = 0.0
    index_version: str = ""


@dataclass(frozen=True)
class Query:
    """What is searched for: a vector of norm 1, and which of its results."""

    vector: "np.ndarray"
    index: str = "image"
    k: int = 50
    offset: int = 0
    filters: Filters = Filters()
    collapse: bool = True


def find(version: IndexVersion, settings: SearchSettings, query: Query) -> Found:
    """Return the hits of a query from its offset, nearest first.

    The nearest rows are read in growing numbers until there are enough hits, up to `search.max_depth` rows. The numbers
    are fixed steps, so that the pages of one query fit together also with an approximate index.
    """
    wanted = query.offset + query.k
    limit = min(len(version), settings.max_depth)
    depth = _FIRST_DEPTH
    while depth < min(wanted + 1, limit):
        depth *= _GROWTH
    index_ms = metadata_ms = 0.0
    while True:
        started = time.perf_counter()
        ids, similarities = version.nearest(query.index, query.vector, min(depth, limit)) if limit else ([], [])
        searched = time.perf_counter()
        found = _choose(version, query, ids, similarities)
        index_ms += (searched - started) * 1_000
        metadata_ms += (time.perf_counter() - searched) * 1_000
        if len(found.hits) > wanted or depth >= limit or _is_exhausted(query, similarities):
            found.more = len(found.hits) > wanted
            found.hits = found.hits[query.offset : wanted]
            found.index_ms, found.metadata_ms = index_ms, metadata_ms
            return found
        depth *= _GROWTH


def nearest_shown(version: IndexVersion, index: str, vector: "np.ndarray", depth: int) -> tuple[list[int], list[float]]:
    """Return ids and similarities of the `depth` nearest rows, without those that may not be shown."""
    ids, similarities = version.nearest(index, vector, min(depth, len(version)))
    kept = [position for position, each in enumerate(version.shown(ids)) if each]
    return [ids[position] for position in kept], [similarities[position] for position in kept]


def _is_exhausted(query: Query, similarities: list[float]) -> bool:
    """Whether no row that is further away can pass the minimum similarity."""
    low = query.filters.min_similarity
    return low is not None and bool(similarities) and similarities[-1] < low


def _choose(version: IndexVersion, query: Query, ids: list[int], similarities: list[float]) -> Found:
    """Return the first hits among the nearest rows: at least one more than wanted if there are that many."""
    found = Found(index_version=version.version)
    wanted = query.offset + query.k
    filters = query.filters
    hits: list[Hit] = []
    owners: list[int] = []
    places = version.tagged_as_shown(ids)
    step = max(wanted + 1, _MIN_ROWS)
    start = looked_at = 0
    while looked_at < len(ids):  # the metadata of rows that are hidden by their tag or not needed is not read
        part = places[start : start + step]
        start += step
        until = part[-1] + 1 if start < len(places) else len(ids)
        found.hidden += until - looked_at - len(part)
        looked_at = until
        rows = version.metadata.rows([ids[place] for place in part])
        shown = version.shown([ids[place] for place in part], rows)
        for place, row, is_shown in zip(part, rows, shown, strict=True):
            row_id, similarity = ids[place], similarities[place]
            if not is_shown:
                found.hidden += 1
            elif (filters.min_similarity is not None and similarity < filters.min_similarity) or (
                filters.any and not filters.match(row)
            ):
                found.filtered += 1
            else:
                hits.append(Hit(row_id, similarity, row))
        owners = _owners(version, hits) if query.collapse else list(range(len(hits)))
        kept = sum(owner == position for position, owner in enumerate(owners))
        if kept > wanted:
            break
        step = step * 2 if filters.any else max(wanted + 1 - kept, _MIN_ROWS)
    duplicates: dict[int, int] = {}
    for position, owner in enumerate(owners):
        if owner != position:
            found.collapsed += 1
            duplicates[owner] = duplicates.get(owner, 0) + 1
    found.hits = [
        Hit(hit.id, hit.similarity, hit.row, duplicates[position]) if position in duplicates else hit
        for position, hit in enumerate(hits)
        if owners[position] == position
    ]
    return found


def _owners(version: IndexVersion, hits: list[Hit]) -> list[int]:
    if not hits:
        return []
    return find_owners(version.vectors("image", [hit.id for hit in hits]), [hit.row.get("sha256") for hit in hits])
