"""A search request: terms to combine, index, page and filters; parsed from JSON with a named error for each field."""

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from laion_assets.errors import QueryError
from laion_assets.search.results.filters import Filters, parse_filters
from laion_assets.search.settings import SearchSettings
from laion_assets.stages.knn_indices.vectors import MODALITIES

MAX_WEIGHT = 100.0
PAGE_SIZE = 50
_TERMS = ("text", "image", "id", "image_url", "vector")
_FIELDS = {"dataset", "terms", "index", "k", "offset", "collapse", "filters", "safety_model"}


@dataclass(frozen=True)
class Term:
    """One part of a query with its weight; a negative weight subtracts. `value` depends on `kind`: a text, the bytes of
    an image file, the id of a row, the URL of an image, or a vector as numbers."""

    kind: str
    value: Any
    weight: float = 1.0


@dataclass(frozen=True)
class SearchRequest:
    """A page of `k` results from `offset` for the combination of `terms`. `collapse` joins near-duplicates.

    `safety_model` requires that the service has a safety model. One that it has is always used.
    """

    dataset: str
    terms: tuple[Term, ...]
    index: str = "image"
    k: int = PAGE_SIZE
    offset: int = 0
    collapse: bool = True
    filters: Filters = Filters()
    safety_model: bool = False


def parse_request(body: Any, limits: SearchSettings) -> SearchRequest:
    """Parse the JSON value of a request. Raises QueryError naming the field, with a code."""
    if not isinstance(body, Mapping):
        raise QueryError("The body must be a JSON object.", "", "invalid_json")
    check_fields(body, _FIELDS, "")
    index = body.get("index", "image")
    if index not in MODALITIES:
        raise QueryError(
            f"Unknown index {shorten(index)}. Choose from {', '.join(MODALITIES)}.", "index", "invalid_index"
        )
    offset = parse_integer(body.get("offset", 0), "offset", 0, limits.max_depth)
    return SearchRequest(
        dataset=parse_name(body),
        terms=parse_terms(body.get("terms"), limits),
        index=index,
        k=parse_integer(body.get("k", min(PAGE_SIZE, limits.max_k)), "k", 1, limits.max_k),
        offset=offset,
        collapse=parse_flag(body, "collapse", True),
        filters=parse_filters(body.get("filters") or {}),
        safety_model=parse_flag(body, "safety_model", False),
    )


def parse_name(body: Mapping[str, Any], field: str = "dataset") -> str:
    """Return the name of the dataset that a request names. Raises QueryError if it is missing or not text."""
    name = body.get(field)
    if not isinstance(name, str):
        raise QueryError(f"Set {field} to the name of a dataset.", field, "invalid_dataset")
    return name


def parse_flag(body: Mapping[str, Any], field: str, default: bool) -> bool:
    """Return true or false. Raises QueryError naming the field."""
    value = body.get(field, default)
    if not isinstance(value, bool):
        raise QueryError(f"{field} must be true or false.", field, f"invalid_{field}")
    return value


def parse_terms(terms: Any, limits: SearchSettings) -> tuple[Term, ...]:
    """Parse the terms of a query. Raises QueryError naming the field."""
    if not isinstance(terms, list) or not terms:
        raise QueryError("Set terms to a list with at least one text, image or id.", "terms", "invalid_terms")
    if len(terms) > limits.max_terms:
        raise QueryError(
            f"The query has {len(terms):,} terms; the maximum is {limits.max_terms}.", "terms", "too_many_terms"
        )
    parsed = tuple(_parse_term(term, f"terms[{number}]", limits) for number, term in enumerate(terms))
    if not any(term.weight for term in parsed):
        raise QueryError("All terms have the weight 0.", "terms", "invalid_weight")
    return parsed


def parse_integer(value: Any, field: str, low: int, high: int) -> int:
    """Return an integer in a range. Raises QueryError naming the field."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise QueryError(
            f"Invalid {field} {shorten(value)}: expected an integer from {low:,} to {high:,}.",
            field,
            f"invalid_{field.rpartition('.')[2]}",
        )
    return value


def check_fields(body: Mapping[str, Any], known: set[str], prefix: str) -> None:
    """Raise QueryError for a field that does not exist: a misspelled filter must not be ignored."""
    for name in body:
        if name not in known:
            raise QueryError(
                f"Unknown field {shorten(prefix + str(name))}. Choose from {', '.join(sorted(known))}.",
                prefix + str(name)[:80],
                "unknown_field",
            )


def shorten(value: Any) -> str:
    """Return a value for an error message, at most 60 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer with more digits than Python prints
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:59]}…"


def check_text(text: Any, limits: SearchSettings, field: str) -> str:
    """Return a text to search for. Raises QueryError if it is empty or too long."""
    if not isinstance(text, str) or not text.strip():
        raise QueryError("The text is empty. Describe in words what to search for.", field, "empty_text")
    if len(text) > limits.max_text_chars:
        raise QueryError(
            f"The text has {len(text):,} characters; the maximum is {limits.max_text_chars:,}.", field, "text_too_long"
        )
    return text


def decode_image_field(text: Any, limits: SearchSettings, field: str) -> bytes:
    """Decode the base64 of an image file. Raises QueryError if it is not base64, or too large."""
    if not isinstance(text, str):
        raise QueryError(f"{field} must be an image file in base64.", field, "invalid_image")
    if len(text) > (limits.max_image_bytes + 2) // 3 * 4 + 4:
        raise QueryError(f"The image is larger than {limits.max_image_bytes:,} bytes.", field, "image_too_large")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise QueryError(f"{field} is not valid base64: {error}.", field, "invalid_image") from error
    if not content:
        raise QueryError("The image is empty.", field, "invalid_image")
    if len(content) > limits.max_image_bytes:
        raise QueryError(
            f"The image has {len(content):,} bytes; the maximum is {limits.max_image_bytes:,}.",
            field,
            "image_too_large",
        )
    return content


def _parse_term(term: Any, field: str, limits: SearchSettings) -> Term:
    if not isinstance(term, Mapping):
        raise QueryError(f"{field} must be an object with a text, image or id.", field, "invalid_terms")
    check_fields(term, {"weight", *_TERMS}, f"{field}.")
    given = [kind for kind in _TERMS if term.get(kind) is not None]
    if len(given) != 1:
        raise QueryError(f"{field} must have exactly one of {', '.join(_TERMS)}.", field, "invalid_terms")
    weight = term.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not abs(weight) <= MAX_WEIGHT:
        raise QueryError(
            f"Invalid weight {shorten(weight)}: expected a number from {-MAX_WEIGHT:g} to {MAX_WEIGHT:g}.",
            f"{field}.weight",
            "invalid_weight",
        )
    kind, value = given[0], term[given[0]]
    name = f"{field}.{kind}"
    if kind == "text":
        value = check_text(value, limits, name)
    elif kind == "image":
        value = decode_image_field(value, limits, name)
    elif kind == "id":
        value = parse_integer(value, name, 0, (1 << 62))
    elif kind == "vector":
        value = check_vector(value, name)
    elif not isinstance(value, str) or len(value) > 8_192:
        raise QueryError(f"{name} must be a URL of at most 8,192 characters.", name, "invalid_image_url")
    return Term(kind, value, float(weight))


def check_vector(value: Any, field: str) -> list[float]:
    """Return a vector of numbers; its width is checked against the index. Raises QueryError."""
    if not isinstance(value, list) or not value or len(value) > 1 << 16:
        raise QueryError(f"{field} must be a list of numbers.", field, "invalid_vector")
    if not all(type(number) in (int, float) for number in value):
        raise QueryError(f"{field} must be a list of numbers.", field, "invalid_vector")
    try:
        numbers = [float(number) for number in value]
    except OverflowError as error:
        raise QueryError(f"{field} has a number that is too large.", field, "invalid_vector") from error
    if not all(map(math.isfinite, numbers)) or not any(numbers):
        raise QueryError(f"{field} is zero or not finite, so it has no direction.", field, "invalid_vector")
    return numbers
