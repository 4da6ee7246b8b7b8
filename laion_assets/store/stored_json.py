"""Reading the JSON that the store keeps for itself: manifests, intents, claims, the layout.

These files may be damaged, or changed by somebody. What this program would not have written is refused here with a
ValueError that says why: duplicate keys, NaN, huge numbers, deep nesting, lone surrogates, unknown fields, wrong types.
"""

import json
import math
import re
from collections.abc import Iterable
from typing import Any

MAX_COUNT = 1 << 53
"""The largest number of rows or bytes that is believed."""
_MAX_DEPTH = 16
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_object(content: bytes) -> dict[str, Any]:
    """The JSON object that is the whole content.

    Raises UnicodeDecodeError or json.JSONDecodeError (both ValueErrors) where it is not JSON, as of a file that was cut
    by a loss of power, and other ValueErrors where it is JSON that this program would not have written.
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
    """Refuse nesting that this program never writes, and numbers that are not finite. Raises ValueError."""
    if depth > _MAX_DEPTH:
        raise ValueError("it is nested too deeply")
    items: Iterable[Any] = value.values() if isinstance(value, dict) else value
    for item in items:
        kind = type(item)
        if kind is dict or kind is list:
            check_values(item, depth + 1)
        elif kind is float and not math.isfinite(item):
            raise ValueError("it holds a number that is not finite")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in an object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"it holds {name}")


_DECODER = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
