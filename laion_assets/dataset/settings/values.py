"""Conversion of values from the settings file and the environment to the types of settings.

In the file a value has its TOML type. In a variable every value is text:
    number   digits, with an optional sign, decimal point and exponent
    boolean  true, false, 1 or 0
    list     items separated by commas (`\\,` is a comma and `\\\\` a backslash in an item), or a JSON list
    map      a JSON object
An empty text unsets an optional setting.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

from laion_assets.dataset.settings.field import find_problem, format_value, parse_type
from laion_assets.errors import SettingError

_INTEGER = re.compile(r"[+-]?[0-9](_?[0-9]){0,99}", re.ASCII)
_DECIMAL = re.compile(
    r"[+-]?([0-9][0-9_]{0,99}\.?[0-9]{0,99}|\.[0-9]{1,99})(e[+-]?[0-9]{1,4})?|[+-]?(inf|nan)", re.ASCII
)


def convert(name: str, raw: Any, field: "dataclasses.Field[Any]", origin: str, *, is_text: bool) -> Any:
    """Convert a value from TOML or, with `is_text`, from a variable. Raises SettingError naming setting and origin."""
    base, item, optional = parse_type(field)
    if optional and raw == "":
        return None
    try:
        if base is tuple:
            value: Any = _list(name, raw, is_text, field)
            value = tuple(_scalar(item, each, is_text) for each in value) if isinstance(value, list) else value
        elif base is dict:
            value = _map(json.loads(raw) if is_text else raw)
        else:
            value = _scalar(base, raw, is_text)
    except (ValueError, RecursionError) as error:
        raise SettingError(
            f"{name} is {format_value(raw)} (from {origin}): {error or 'it is nested too deeply'}."
        ) from error
    problem = find_problem(field, value)
    if problem:
        raise SettingError(f"{name} is {format_value(raw)} (from {origin}): {problem}.")
    return value


def split_list(text: str) -> list[str]:
    """Split a text at commas. Items are stripped, empty items are dropped, and a backslash escapes a comma."""
    items, item, escaped = [], "", False
    for character in text:
        if escaped:
            item += character if character in ",\\" else f"\\{character}"
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == ",":
            items.append(item)
            item = ""
        else:
            item += character
    items.append(f"{item}\\" if escaped else item)
    return [stripped for each in items if (stripped := each.strip())]


def _list(name: str, raw: Any, is_text: bool, field: "dataclasses.Field[Any]") -> Any:
    if not isinstance(raw, str):
        return raw
    if is_text:
        if not raw.lstrip().startswith("["):
            return split_list(raw)
        try:
            return json.loads(raw)
        except ValueError as error:
            raise ValueError(f"it starts with [ but is not a JSON list: {error}") from error
    if "," in raw and not field.metadata["holds_commas"]:
        items = json.dumps(split_list(raw), ensure_ascii=False)
        raise ValueError(f"it must be a list. Write {name.rpartition('.')[2]} = {items}")
    return [raw]


def _scalar(kind: type, raw: Any, is_text: bool) -> Any:
    """Convert a scalar. Values of another type are returned unchanged, and `find_problem` refuses them."""
    if kind in (int, float):
        if is_text and isinstance(raw, str):
            text = raw.strip().lower()
            if _INTEGER.fullmatch(text):
                raw = int(text)
            elif _DECIMAL.fullmatch(text):
                raw = float(text)
        if isinstance(raw, bool) or not isinstance(raw, int | float):
            return raw
        if kind is int:
            return int(raw) if isinstance(raw, float) and raw.is_integer() else raw
        return float(raw) if abs(raw) < 1 << 1000 else raw
    if kind is bool and is_text:
        return {"true": True, "1": True, "false": False, "0": False}.get(str(raw).strip().lower(), raw)
    return raw


def _map(raw: Any, prefix: str = "") -> Any:
    """Convert a map of texts. Nested tables become dotted names: TOML reads `spark.executor.memory` as three tables."""
    if not isinstance(raw, Mapping):
        return raw
    found: dict[str, Any] = {}
    for key, value in raw.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found.update(_map(value, f"{name}."))
        elif isinstance(value, bool):
            found[name] = "true" if value else "false"
        else:
            found[name] = str(value) if isinstance(value, int | float) else value
    return found
