"""Filters over the metadata of a row: similarity, original size, domain, NSFW tag, licence, words of the caption."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlsplit

from laion_assets.errors import QueryError

MAX_WORDS_CHARS = 1_000


@dataclass(frozen=True)
class Filters:
    """Conditions that must all hold; None and empty ones are not checked. Texts are compared without case.

    `domain` also matches its subdomains. `words` must all occur in the caption. `licence` is a part of the licence.
    Width and height are those of the original image, in pixels; a row without them matches no condition on them.
    """

    min_similarity: float | None = None
    min_width: int | None = None
    min_height: int | None = None
    max_width: int | None = None
    max_height: int | None = None
    domain: str = ""
    nsfw: tuple[str, ...] = ()
    licence: str = ""
    words: str = ""

    @property
    def any(self) -> bool:
        """Whether any condition is set."""
        return self != _NONE

    def match(self, row: Mapping[str, Any]) -> bool:
        """Whether the metadata of a row fulfils all conditions except `min_similarity`."""
        width, height = original_size(row)
        for value, low, high in ((width, self.min_width, self.max_width), (height, self.min_height, self.max_height)):
            if low is not None and (value is None or value < low):
                return False
            if high is not None and (value is None or value > high):
                return False
        if self.domain:
            host = "." + domain_of(row.get("url") or "")
            if not host.endswith("." + self.domain.lower().strip(".")):
                return False
        if self.nsfw and (row.get("NSFW") or "").upper() not in self.nsfw:
            return False
        if self.licence and self.licence.lower() not in (row.get("LICENSE") or "").lower():
            return False
        if self.words:
            caption = (row.get("caption") or "").lower()
            return all(word in caption for word in self.words.lower().split())
        return True


_NONE = Filters()


def original_size(row: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return width and height of the original image, else of the stored one, in pixels."""
    if row.get("original_width") is not None and row.get("original_height") is not None:
        return row["original_width"], row["original_height"]
    return row.get("width"), row.get("height")


@functools.lru_cache(100_000)
def domain_of(url: str) -> str:
    """Return the host of a URL in lower case, empty if it has none."""
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def parse_filters(value: Any) -> Filters:
    """Parse the field `filters` of a request. Raises QueryError naming the filter."""
    if not isinstance(value, Mapping):
        raise QueryError("filters must be an object.", "filters", "invalid_filters")
    known = {field.name for field in fields(Filters)}
    for name in value:
        if name not in known:
            raise QueryError(
                f"Unknown filter {str(name)[:60]!r}. Choose from {', '.join(sorted(known))}.",
                f"filters.{str(name)[:80]}",
                "unknown_field",
            )
    return Filters(**{name: _parse_filter(name, each) for name, each in value.items() if each not in (None, "", [])})


def _parse_filter(name: str, value: Any) -> Any:
    field = f"filters.{name}"
    if name == "min_similarity":
        if isinstance(value, bool) or not isinstance(value, int | float) or not -1 <= value <= 1:
            raise QueryError(f"{field} must be a number from -1 to 1.", field, "invalid_filters")
        return float(value)
    if name in ("domain", "licence", "words"):
        if not isinstance(value, str) or len(value) > MAX_WORDS_CHARS:
            raise QueryError(
                f"{field} must be a text of at most {MAX_WORDS_CHARS:,} characters.", field, "invalid_filters"
            )
        return value.strip()
    if name == "nsfw":
        if not isinstance(value, list) or len(value) > 16 or not all(isinstance(tag, str) for tag in value):
            raise QueryError(f"{field} must be a list of NSFW tags.", field, "invalid_filters")
        return tuple(tag.upper() for tag in value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1 << 31:
        raise QueryError(f"{field} must be a number of pixels.", field, "invalid_filters")
    return value
