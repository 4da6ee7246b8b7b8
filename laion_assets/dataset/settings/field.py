"""The declaration of a setting with its bounds, and the digest of the settings that change bytes."""

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

from laion_assets.errors import SettingError

Check = Callable[[str], str | None]
"""A function that returns None for a valid text, else what the text must be ("must be ...")."""


def setting(
    default: Any,
    help: str,
    *,
    unit: str = "",
    min: float | None = None,
    max: float | None = None,
    choices: Sequence[str] = (),
    check: Check | None = None,
    non_empty: bool = False,
    holds_commas: bool = False,
    changes_bytes: bool = False,
    in_digest_at_default: bool = True,
) -> Any:
    """Declare a setting as a dataclass field.

    `help` is printed by `laion-assets settings`. `min` and `max` (inclusive) bound a number, or each number of a list.
    Every numeric setting declares both; `max=inf` means no upper bound. `choices` are the allowed texts. `check`
    validates a text, each item of a list, or each value of a map. `non_empty` refuses an empty text, list or item.
    `holds_commas`: if the settings file has a text instead of a list, it is one item, commas included. `changes_bytes`:
    another value makes artefacts stale, because their bytes differ. Settings for speed (processes, batch sizes,
    devices) do not change bytes. `in_digest_at_default=False` is for a setting that was added later: the digest
    includes it only where it is not the default, so that older partitions stay complete. Raises TypeError for a number
    without bounds.
    """
    first = default[0] if isinstance(default, tuple) and default else default
    if isinstance(first, int | float) and not isinstance(first, bool) and (min is None or max is None):
        raise TypeError(f"The numeric setting {help!r} has no bounds: declare setting({default!r}, ..., min=, max=).")
    metadata = {
        "help": help,
        "unit": unit,
        "min": min,
        "max": max,
        "choices": tuple(choices),
        "check": check,
        "non_empty": non_empty,
        "holds_commas": holds_commas,
        "changes_bytes": changes_bytes,
        "in_digest_at_default": in_digest_at_default,
    }
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def parse_type(field: "dataclasses.Field[Any]") -> tuple[type, type, bool]:
    """Return the type of a setting, the type of its items (the same if it has none), and whether it may be None."""
    kind: Any = field.type
    optional = isinstance(kind, types.UnionType)
    if optional:
        kind = next(each for each in typing.get_args(kind) if each is not types.NoneType)
    base = typing.get_origin(kind) or kind
    return base, typing.get_args(kind)[0] if base is tuple else base, optional


def allowed_values(field: "dataclasses.Field[Any]") -> str:
    """Return the allowed values in words, such as `1 to 4,096` or `pool or spark`. Empty if every value is allowed."""
    low, high, choices = (field.metadata[name] for name in ("min", "max", "choices"))
    if choices:
        return f"{', '.join(choices[:-1])} or {choices[-1]}"
    if low is None or high is None:
        return ""
    return f"at least {_number(low)}" if high == float("inf") else f"{_number(low)} to {_number(high)}"


def find_problem(field: "dataclasses.Field[Any]", value: Any) -> str | None:
    """Return None for an allowed value of a setting, else a clause with what the value must be: `it must be text`."""
    base, item, optional = parse_type(field)
    if value is None and optional:
        return None
    if base is tuple:
        if not isinstance(value, tuple | list):
            return "it must be a list"
        if not value and field.metadata["non_empty"]:
            return "it must have at least one item"
        problems = (problem for each in value if (problem := _scalar_problem(field, item, each)))
        found = next(problems, None)
        return found and f"each item {found}"
    if base is dict:
        if not isinstance(value, dict):
            return "it must be a table of names and texts"
        for key, each in value.items():
            found = _scalar_problem(field, str, key, checked=False) or _scalar_problem(field, str, each)
            if found:
                return f"the value of {key!r} {found}"
        return None
    found = _scalar_problem(field, base, value)
    return found and f"it {found}"


def check_settings(group: Any, prefix: str) -> None:
    """Raise SettingError, naming the setting, for a value that a settings dataclass does not allow."""
    for field in dataclasses.fields(group):
        if "help" in field.metadata:
            value = getattr(group, field.name)
            problem = find_problem(field, value)
            if problem:
                raise SettingError(f"{prefix}{field.name} is {format_value(value)}: {problem}.")


def format_value(value: Any) -> str:
    """Format a value for an error message: its repr, at most 100 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of more digits than Python prints, a list nested too deeply
        return f"a {type(value).__name__} too large to print"
    return text if len(text) <= 100 else f"{text[:97]}..."


def byte_settings(settings: Any) -> dict[str, Any]:
    """Return the settings of a dataclass that change bytes, by name."""
    return {
        field.name: value
        for field in dataclasses.fields(settings)
        if field.metadata.get("changes_bytes")
        and ((value := getattr(settings, field.name)) != field.default or field.metadata["in_digest_at_default"])
    }


def compute_digest(value: Any) -> str:
    """Return a digest of a JSON value, 32 hex digits. Keys are sorted, so that equal values have equal digests."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _scalar_problem(field: "dataclasses.Field[Any]", kind: type, value: Any, checked: bool = True) -> str | None:
    if kind in (int, float):
        if field.metadata["min"] is None or field.metadata["max"] is None:
            raise TypeError(f"The numeric setting {field.name} has no bounds: declare setting(..., min=, max=).")
        is_number = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
        if is_number and field.metadata["min"] <= value <= field.metadata["max"]:  # NaN is in no range
            return None
        unit = f" ({field.metadata['unit']})" if field.metadata["unit"] else ""
        bounds = allowed_values(field)
        kind_name = "an integer" if kind is int else "a number"
        return f"must be {kind_name} {'of' if bounds.startswith('at least') else 'from'} {bounds}{unit}"
    if kind is bool:
        return None if isinstance(value, bool) else "must be true or false"
    if not isinstance(value, str):
        return "must be text"
    if field.metadata["non_empty"] and not value.strip():
        return "must not be empty"
    if "\0" in value or not _is_unicode(value):
        return "must be text in UTF-8 without NUL"
    if field.metadata["choices"] and value not in field.metadata["choices"]:
        return f"must be {allowed_values(field)}"
    return field.metadata["check"](value) if field.metadata["check"] and checked else None


def _is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogates. Python decodes bytes outside of the locale's encoding to surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"
