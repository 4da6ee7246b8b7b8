"""Find the results of a query vector: nearest rows, without hidden and filtered rows, near-duplicates collapsed."""

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from laion_assets.search.duplicates import find_owners
from laion_assets.search.filters import Filters
from laion_assets.search.index_version import IndexVersion
from laion_assets.search.safety import is_shown
from laion_assets.search.settings import SearchSettings

if TYPE_CHECKING:
    import numpy as np

_FIRST_DEPTH = 64
_GROWTH = 4


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


def find(
    version: IndexVersion,
    settings: SearchSettings,
    vector: "np.ndarray",
    index: str = "image",
    k: int = 50,
    offset: int = 0,
    filters: Filters = Filters(),
    collapse_duplicates: bool = True,
) -> Found:
    """Return the hits from `offset` for a query vector of norm 1, nearest first.

    The nearest rows are read in growing numbers until there are enough hits, up to `search.max_depth` rows. The numbers
    are fixed steps, so that the pages of one query fit together also with an approximate index.
    """
    wanted = offset + k
    limit = min(len(version), settings.max_depth)
    depth = _FIRST_DEPTH
    while depth < min(wanted + 1, limit):
        depth *= _GROWTH
    while True:
        found, enough = _find_among(
            version, settings, vector, index, min(depth, limit), wanted, filters, collapse_duplicates
        )
        if enough or depth >= limit:
            found.more = len(found.hits) > wanted
            found.hits = found.hits[offset:wanted]
            return found
        depth *= _GROWTH


def _find_among(
    version: IndexVersion,
    settings: SearchSettings,
    vector: "np.ndarray",
    index: str,
    depth: int,
    wanted: int,
    filters: Filters,
    collapse_duplicates: bool,
) -> tuple[Found, bool]:
    """Return the hits among the `depth` nearest rows, one more than `wanted` at most, and whether these are enough."""
    found = Found(index_version=version.version)
    started = time.perf_counter()
    ids, similarities = version.nearest(index, vector, depth) if depth else ([], [])
    searched = time.perf_counter()
    if filters.min_similarity is not None:
        kept = sum(similarity >= filters.min_similarity for similarity in similarities)
        found.filtered += len(ids) - kept
        ids, ended = ids[:kept], kept < len(ids)
    else:
        ended = False
    hits = []
    step = max(wanted + 1, _FIRST_DEPTH)
    for start in range(0, len(ids), step):  # the metadata of rows that are not needed is not read
        part = ids[start : start + step]
        for row_id, similarity, row in zip(part, similarities[start:], version.metadata.rows(part), strict=False):
            if not is_shown(row, settings):
                found.hidden += 1
            elif filters.any and not filters.match(row):
                found.filtered += 1
            else:
                hits.append(Hit(row_id, similarity, row))
        if not collapse_duplicates and len(hits) > wanted:
            break
        if collapse_duplicates and len(hits) > wanted and _count_kept(version, hits) > wanted:
            break
    found.hits = _collapse(version, hits) if collapse_duplicates else hits
    found.collapsed = len(hits) - len(found.hits)
    enough = ended or len(found.hits) > wanted
    found.hits = found.hits[: wanted + 1]
    found.index_ms = (searched - started) * 1_000
    found.metadata_ms = (time.perf_counter() - searched) * 1_000
    return found, enough


def _owners(version: IndexVersion, hits: list[Hit]) -> list[int]:
    if not hits:
        return []
    return find_owners(version.vectors("image", [hit.id for hit in hits]), [hit.row.get("sha256") for hit in hits])


def _count_kept(version: IndexVersion, hits: list[Hit]) -> int:
    return sum(owner == position for position, owner in enumerate(_owners(version, hits)))


def _collapse(version: IndexVersion, hits: list[Hit]) -> list[Hit]:
    owners = _owners(version, hits)
    duplicates: dict[int, int] = {}
    for position, owner in enumerate(owners):
        if owner != position:
            duplicates[owner] = duplicates.get(owner, 0) + 1
    return [
        Hit(hit.id, hit.similarity, hit.row, duplicates.get(position, 0))
        for position, hit in enumerate(hits)
        if owners[position] == position
    ]
