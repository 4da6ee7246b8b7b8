"""Datasets that the settings file declares, each in a table `[dataset.NAME]`.

    [dataset.cats]
    description = "Cats of a crawl"
    layout = { parquet_files = 4, shards = 100, embedding_files = 10, rows_per_shard = 10000 }
    source = "/data/cats/csv"
    [dataset.cats.images]
    image_size = 384

The table holds the description and the layout, and any setting, as a section `[cats]` may. `rows = 120000` in place of
the layout derives it (`proposed_layout.py`).
"""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from laion_assets.dataset.built_in import BUILT_IN
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets.dataset.proposed_layout import propose_layout
from laion_assets.dataset.settings.field import format_value
from laion_assets.errors import LayoutError, SettingError

TABLE = "dataset"
"""The table of the settings file that holds the declarations."""
LAYOUT_HELP = {
    "parquet_files": "parquet files of unique rows: the partitions of dedup_parquet",
    "shards": "webdataset shards: the partitions of image_shards",
    "embedding_files": "embedding files",
    "rows_per_shard": "most rows of a shard, 1 to 10,000",
}
ROWS = "rows"
EXAMPLE = "layout = { parquet_files = 4, shards = 100, embedding_files = 10, rows_per_shard = 10000 }"
OWN_KEYS = ("description", "layout", ROWS)
"""The keys of a declaration that are not settings."""


def declared_datasets(file: Mapping[str, Any], file_name: str) -> dict[str, Dataset]:
    """Return the datasets of a settings file by name, with description and layout, without their settings.

    Raises SettingError naming the file and the table.
    """
    tables = file.get(TABLE, {})
    if not isinstance(tables, Mapping):
        raise SettingError(f"{file_name} sets {TABLE}: it must be a table for each dataset, [{TABLE}.NAME].")
    declared = {name: _declare(name, table, f"{file_name} [{TABLE}.{name}]") for name, table in tables.items()}
    by_lower_case: dict[str, str] = {}
    for name in declared:
        twin = by_lower_case.setdefault(name.lower(), name)
        if twin != name:
            raise SettingError(
                f"{file_name} declares the datasets {twin} and {name}, which differ only in upper and lower case. "
                "Their environment variables would be the same. Rename one."
            )
    return declared


def _declare(name: str, table: Any, where: str) -> Dataset:
    if not isinstance(table, Mapping):
        raise SettingError(f"{where} is {format_value(table)}: it must be a table with {ROWS} or {EXAMPLE}.")
    if name.lower() in BUILT_IN:
        raise SettingError(
            f"{where}: the dataset {name.lower()} is built in. Change its settings in a section [{name.lower()}], or "
            "choose another name."
        )
    description = table.get("description", "")
    if not isinstance(description, str):
        raise SettingError(f"{where} sets description to {format_value(description)}: it must be a text.")
    try:
        return Dataset(name=name, description=description, layout=_find_layout(table))
    except (SettingError, LayoutError) as error:
        raise SettingError(f"{where}: {error}") from error


def _find_layout(table: Mapping[str, Any]) -> Layout:
    """Return the declared layout, or the one for the declared number of rows. Raises LayoutError."""
    if ROWS not in table and "layout" not in table:
        raise LayoutError(
            f"it has neither {ROWS} nor layout, which decide the partitions. Add {ROWS} = N, the number of rows of its "
            f"files (a tenth more still fit), or the counts themselves: {EXAMPLE}. Or remove the table: `laion-assets "
            "init NAME --from FOLDER` counts the rows and writes it."
        )
    if ROWS not in table:
        return parse_layout(table["layout"])
    if "layout" in table:
        raise LayoutError(f"it has both {ROWS} and layout. Remove one: the layout follows from {ROWS}.")
    rows = table[ROWS]
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        raise LayoutError(f"{ROWS} is {format_value(rows)}: it must be a number of rows, at least 1.")
    return propose_layout(rows)


def parse_layout(counts: Any) -> Layout:
    """Return the layout of a table of counts. Raises LayoutError for missing, unknown and impossible ones."""
    if not isinstance(counts, Mapping):
        raise LayoutError(f"layout is {format_value(counts)}: it must be a table. Example: {EXAMPLE}.")
    for name, value in counts.items():
        if name not in LAYOUT_HELP:
            near = difflib.get_close_matches(str(name), LAYOUT_HELP, 1, 0.6)
            advice = f"Did you mean {near[0]}?" if near else f"Choose from {', '.join(LAYOUT_HELP)}."
            raise LayoutError(f"layout.{name} is not one of the counts. {advice}")
        if isinstance(value, bool) or not isinstance(value, int):
            raise LayoutError(f"layout.{name} is {format_value(value)}: it must be an integer ({LAYOUT_HELP[name]}).")
    required = [
        field.name
        for field in dataclasses.fields(Layout)
        if field.name in LAYOUT_HELP and field.default is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in counts]
    if missing:
        raise LayoutError(f"layout has no {' and no '.join(missing)}. Example: {EXAMPLE}.")
    return Layout(**counts)
