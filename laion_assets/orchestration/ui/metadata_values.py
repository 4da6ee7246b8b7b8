"""Metadata values for the Dagster UI: text, tables and images. They are built here and nowhere else.

The UI shows text, paths, JSON and table cells unchanged. It renders `MetadataValue.md` and every description as
markdown: it loads images and activates links. So data goes into text and tables, markdown contains only `data:` URLs of
images that we drew, and descriptions are escaped by `description`.
"""

import base64
import math
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import dagster as dg

from laion_assets.plain_text import for_markdown, one_line

CELL_CHARS = 300
"""Longer table cells and texts are truncated: the event log keeps them permanently."""
_OWN_PATH = re.compile(r"/[A-Za-z0-9][A-Za-z0-9/_.%?&=-]*")
_EXACT = 2**53
"""Numbers up to this are exact in a browser, which cannot parse NaN and infinity."""


def text(value: object) -> dg.TextMetadataValue:
    """Return one line of plain text."""
    return dg.MetadataValue.text(one_line(value, CELL_CHARS))


def time_value(stamp: str) -> dg.TimestampMetadataValue | dg.TextMetadataValue:
    """Return an ISO 8601 time with time zone, which the UI shows in the reader's zone; other text as text."""
    try:
        return dg.MetadataValue.timestamp(datetime.fromisoformat(stamp))
    except ValueError:
        return text(stamp)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], limit: int = 50) -> dg.TableMetadataValue:
    """Return the first `limit` rows as a table; a last row counts the others."""
    left = iter(rows)
    shown = [[_cell(value) for value in row] for row in islice(left, limit)]
    more = sum(1 for _ in left)
    types = [_type(shown[0][place]) if shown else "string" for place in range(len(columns))]
    if more:
        shown.append([f"... and {more:,} more", *[None] * (len(columns) - 1)])
        types[0] = "string"
    names = [one_line(name, CELL_CHARS) for name in columns]
    return dg.MetadataValue.table(
        [dg.TableRecord(dict(zip(names, row, strict=True))) for row in shown],
        dg.TableSchema([dg.TableColumn(name, kind) for name, kind in zip(names, types, strict=True)]),
    )


def json_value(value: Any) -> dg.JsonMetadataValue:
    """Return a dict or list as JSON, with every string on one line."""
    return dg.MetadataValue.json(_plain(value))


def images(drawn: Iterable[tuple[str, str, bytes]]) -> dg.MarkdownMetadataValue:
    """Return images that we drew, one below the other: title, media type (`image/png`) and bytes of each."""
    return dg.MetadataValue.md(
        "\n\n".join(
            f"**{for_markdown(title)}**\n\n![](data:{media_type};base64,{base64.b64encode(data).decode()})"
            for title, media_type, data in drawn
        )
    )


def report(tables: Iterable[tuple[str, Any]], drawn: Iterable[tuple[str, str, bytes]]) -> dg.MarkdownMetadataValue:
    """Return tables, each with its title, and then images as in `images`. A table has `head` and `rows`."""
    blocks = []
    for title, each in tables:
        lines = [each.head, ["---"] + ["---:"] * (len(each.head) - 1), *each.rows]
        shown = "\n".join(
            f"| {' | '.join(map(_markdown_cell if place != 1 else str, line))} |" for place, line in enumerate(lines)
        )
        blocks.append(f"**{for_markdown(title)}**\n\n{shown}")
    return dg.MetadataValue.md("\n\n".join([*blocks, images(drawn).md_str or ""]))


def link(title: str, path: str) -> dg.MarkdownMetadataValue:
    """Return a link to a page of this Dagster UI: `path` starts with `/` and is quoted. No data goes into it."""
    if not _OWN_PATH.fullmatch(path):
        raise ValueError(f"{path!r} is not a quoted path of the Dagster UI.")
    return dg.MetadataValue.md(f"[{for_markdown(title)}]({path})")


def description(value: object) -> str:
    """Return the escaped description of a materialization or of a check's result."""
    return for_markdown(value)


def _cell(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and math.isfinite(value) and abs(value) <= _EXACT:
        return value
    return one_line(value, CELL_CHARS)


def _markdown_cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else for_markdown(one_line(value, CELL_CHARS))


def _type(value: object) -> str:
    return {bool: "bool", int: "int", float: "float"}.get(type(value), "string")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {one_line(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return one_line(value) if isinstance(value, str) else value
