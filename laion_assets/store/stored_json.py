"""The internal JSON files of the store: manifests, intents, leases, the layout.

These files may be damaged, or someone may have changed them. Content that this program never writes is refused with a
ValueError that says why: duplicate keys, NaN, huge numbers, deep nesting, lone surrogates, unknown fields, wrong types.
"""

import json
import math
import re
from collections.abc import Iterable
from typing import Any

MAX_COUNT = 1 << 53
"""The largest number of rows or bytes that is accepted."""
_MAX_DEPTH = 16
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_object(content: bytes) -> dict[str, Any]:
    """Parse content that must be one JSON object.

    Raises UnicodeDecodeError or json.JSONDecodeError (both ValueErrors) for content that is not JSON, such as a file
    truncated by a power loss. Raises other ValueErrors for JSON that this program never writes.
    """
    try:
        value = _DECODER.decode(content.decode())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if type(value) is not dict:
        raise ValueError("it is not a JSON object")
    if _SURROGATE.search(content):
        json.dumps(value, ensure_ascii=False).encode()  # Raises UnicodeEncodeError, a ValueError.
    return value


def check_values(value: dict[str, Any] | list[Any], depth: int = 0) -> None:
    """Raise ValueError for nesting that this program never writes, and for numbers that are not finite."""
    if depth > _MAX_DEPTH:
        raise ValueError("it is nested too deeply")
    items: Iterable[Any] = value.values() if isinstance(value, dict) else value
    for item in items:
        kind = type(item)
        if kind is dict or kind is list:
            check_values(item, depth + 1)
        elif kind is float and not math.isfinite(item):
            raise ValueError("it has a number that is not finite")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("an object has a duplicate key")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"it has the constant {name}")


_DECODER = json.JSONDecoder(object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant)
