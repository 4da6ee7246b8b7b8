"""The table of all settings, docs/settings.md: name, default, allowed values and meaning, from their declarations."""

import dataclasses
from typing import Any

from laion_assets.dataset.settings.field import allowed_values, kind_of
from laion_assets.dataset.settings.names import FIELDS, OTHER_VARIABLES

_HEAD = """# Settings

Made by `laion-assets settings --markdown`. Where values come from, and how they are written, is in
[operations.md](operations.md#settings). A dataset may declare another default; `laion-assets settings --dataset NAME`
prints its values. *bytes*: another value makes partitions stale.
"""


def reference() -> str:
    """The page, in Markdown."""
    tables: dict[str, list[str]] = {}
    for name, field in FIELDS.items():
        table, _, key = name.rpartition(".")
        cells = (f"`{key}`", _default(field), _allowed(field), _meaning(field))
        row = " | ".join(cell.replace("|", "\\|") for cell in cells)
        tables.setdefault(table, []).append(f"| {row} |")
    lines = [_HEAD.rstrip()]
    for table, rows in tables.items():
        title = f"`[{table}]`" if table else "At the top, or in a dataset's section"
        lines += [f"\n## {title}\n", "| setting | default | allowed | meaning |", "|---|---|---|---|", *rows]
    lines += ["\n## Other variables\n", "| variable | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in OTHER_VARIABLES.items()]
    return "\n".join(lines) + "\n"


def _default(field: "dataclasses.Field[Any]") -> str:
    value = {} if field.default is dataclasses.MISSING else field.default  # maps have a factory
    if value in (None, "", (), {}):
        return "-"
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _allowed(field: "dataclasses.Field[Any]") -> str:
    base, item, _ = kind_of(field)
    words = {bool: "true or false", dict: "a map of texts", str: "text", int: "an integer", float: "a number"}
    kind = f"a list, each {words[item]}" if base is tuple else words[base]
    found = allowed_values(field)
    unit = f" {field.metadata['unit']}" if field.metadata["unit"] else ""
    return f"{found}{unit}" if found else kind


def _meaning(field: "dataclasses.Field[Any]") -> str:
    return f"{field.metadata['help']}{' (*bytes*)' if field.metadata['changes_bytes'] else ''}"
