"""The results of the report's queries: the nearest images that may be shown."""

import io
from dataclasses import dataclass
from typing import Any

from laion_assets.models.images import decode_image
from laion_assets.search.query import Searcher, SearchResult

_MORE = 4
"""Results that are looked up for each one that is shown, and the factor of a further try."""
THUMBNAIL_PX = 224
_QUALITY = 82


@dataclass(frozen=True)
class Answer:
    """A query, the results that are shown (nearest first), and the number of nearer results that are hidden."""

    query: str
    results: tuple[SearchResult, ...]
    hidden: int

    def to_json(self) -> dict[str, Any]:
        """Return the answer as a JSON object."""
        results = [
            {
                "uid": result.uid,
                "key": result.key,
                "shard": int(result.shard),
                "row": result.row,
                "similarity": round(result.similarity, 6),
                "caption": result.caption,
            }
            for result in self.results
        ]
        return {"query": self.query, "hidden": self.hidden, "results": results}


def answer_query(searcher: Searcher, query: str, wanted: int) -> Answer:
    """Return the nearest `wanted` safe images (`Searcher.safe`), fewer if the nearest `search.max_k` have fewer."""
    limit = searcher.dataset.search.max_k
    k, found = 0, list[SearchResult]()
    while k < limit and len(found) >= k:
        k = min(limit, max(k, wanted) * _MORE)
        found = searcher.search(text=query, k=k)
        shown = searcher.safe(found)[:wanted]
        if len(shown) == wanted:
            return Answer(query, tuple(shown), found.index(shown[-1]) + 1 - wanted)
    return Answer(query, tuple(shown), len(found) - len(shown))


def draw_thumbnail(content: bytes) -> bytes:
    """Return a JPEG of at most `THUMBNAIL_PX` without metadata; empty if the bytes do not decode."""
    image = decode_image(content)
    if image is None:
        return b""
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
