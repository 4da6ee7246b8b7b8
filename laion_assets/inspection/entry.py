"""The entry `[dataset.NAME]` of the settings file: its text with comments, appended to what is there."""

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from laion_assets.dataset.built_in import BUILT_IN
from laion_assets.dataset.dataset import RESERVED_NAMES, Dataset
from laion_assets.dataset.settings.declared import TABLE
from laion_assets.dataset.settings.file import MAX_BYTES, read_settings_file
from laion_assets.dataset.settings.resolution import Settings
from laion_assets.errors import SettingError
from laion_assets.plain_text import one_line

_OWN = ("source", "published", "model")
_COMMENTS = {
    "source": "folder or URL of the CSV or JSON lines files; they are copied into raw_csv",
    "published": "parquet files; they are read in place",
    "model": "CLIP model, a name of clip-retrieval",
    "csv.pattern": "files of the source",
    "dedup.separator": "field separator",
    "dedup.quote": "quote character; empty: fields are not quoted",
    "dedup.encoding": "character encoding",
    "dedup.format": "the names of the files do not say it",
    "dedup.column_names": "the files have no header line",
    "dedup.required_columns": "URL is the image, TEXT the caption",
    "dedup.url_column": "column of the image URLs",
    "dedup.caption_column": "column of the captions",
    "dedup.keep_columns": "kept in dedup_parquet and in each sample",
}


def refuse_existing(name: str, file: Path) -> None:
    """Raise SettingError if the settings file or the package has a dataset or a section of this name."""
    if name.lower() in BUILT_IN:
        raise SettingError(f"The dataset {name} is built in. Choose another name, for example my_{name}.")
    table = read_settings_file(file) or {}
    declared = table.get(TABLE, {})
    names = {each.lower() for each in declared} if isinstance(declared, Mapping) else set()
    if name.lower() in names:
        raise SettingError(
            f"{file} already declares the dataset {name}. Choose another name, change its settings in "
            f"[{TABLE}.{name}], or remove that table and its subtables first. Its files stay in the folder {name} of "
            "the setting root."
        )
    if name.lower() not in RESERVED_NAMES and name.lower() in {each.lower() for each in table}:
        raise SettingError(f"{file} already has a section [{name}] of settings. Choose another name, or remove it.")


def format_entry(dataset: Dataset, base: Dataset, about: Mapping[str, str]) -> str:
    """Return the TOML text of a dataset: its layout, and the settings that differ from those of `base`.

    `about` has comments: `head` above the entry, `layout` above the layout, `foot` after the last setting.
    """
    changed = dict(_find_changes(dataset, base))
    lines = [f"# {one_line(line)}" for line in about.get("head", "").splitlines()]
    lines += [f"[{TABLE}.{dataset.name}]", f"description = {_format(dataset.description)}"]
    lines += [_assign(key, value) for key, value in changed.items() if "." not in key and key != "resolve"]
    layout = dataset.layout
    lines += [f"# {one_line(line)}" for line in about.get("layout", "").splitlines()]
    lines.append(
        f"layout = {{ parquet_files = {layout.parquet_files}, shards = {layout.shards}, "
        f"embedding_files = {layout.embedding_files}, rows_per_shard = {layout.rows_per_shard} }}"
    )
    for section in dict.fromkeys(key.rpartition(".")[0] for key in changed if "." in key):
        lines += ["", f"[{TABLE}.{dataset.name}.{section}]"]
        lines += [_assign(key, value) for key, value in changed.items() if key.rpartition(".")[0] == section]
    if "resolve" in changed:
        lines += [
            "",
            "# These hosts may be on a private network: host = address:port",
            f"[{TABLE}.{dataset.name}.resolve]",
        ]
        lines += [f"{_format(host)} = {_format(where)}" for host, where in changed["resolve"].items()]
    lines += [f"# {one_line(line)}" for line in about.get("foot", "").splitlines()]
    return "\n".join(lines) + "\n"


def format_resolve(name: str, hosts: Mapping[str, str]) -> str:
    """Return the lines that allow hosts on a private network, for a comment of the entry."""
    lines = [f"[{TABLE}.{name}.resolve]  # allows these hosts, which are on a private network"]
    return "\n".join([*lines, *(f"{_format(host)} = {_format(where)}" for host, where in hosts.items())])


def format_show_untagged(name: str) -> str:
    """Return the lines that show images without NSFW tags, for a comment of the entry."""
    return (
        f"[{TABLE}.{name}.search_report]  # the rows have no NSFW tags: shows their images, also in the Dagster UI\n"
        "show_untagged = true"
    )


def append_entry(file: Path, entry: str, name: str) -> None:
    """Append an entry to the settings file, which is created if it does not exist. What is there keeps its bytes.

    Raises SettingError, before anything is written, if the file with the entry would not be valid.
    """
    before = file.read_bytes() if file.exists() else b""
    gap = b"" if not before else b"\n" if before.endswith(b"\n") else b"\n\n"
    added = gap + entry.encode()
    if len(before) + len(added) > MAX_BYTES:
        raise SettingError(f"{file} would have more than {MAX_BYTES:,} bytes. Use another settings file.")
    check_entry(before + added, file, name)
    try:
        with file.open("ab") as opened:
            opened.write(added)
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise SettingError(
            f"The settings file {file} cannot be written: {error.strerror}. Check its rights."
        ) from error


def check_entry(content: bytes, file: Path, name: str) -> Dataset:
    """Return the dataset that the content of a settings file declares. Raises SettingError if it is not valid."""
    try:
        table = tomllib.loads(content.decode("utf-8-sig"))
    except ValueError as error:
        raise SettingError(
            f"[{TABLE}.{name}] cannot be appended to {file}: {error}. Write the datasets of the file as tables, "
            f"[{TABLE}.NAME], or add the entry by hand (--dry-run prints it)."
        ) from error
    settings = Settings(table, str(file), dict(os.environ))
    return settings.apply(settings.datasets[name])


def _find_changes(settings: Any, base: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in fields(settings):
        value, default = getattr(settings, field.name), getattr(base, field.name)
        name = f"{prefix}{field.name}"
        if "help" in field.metadata:
            if value != default:
                yield name, value
        elif is_dataclass(value) and field.name != "layout":
            yield from _find_changes(value, default, f"{name}.")


def _assign(key: str, value: Any) -> str:
    comment = f"  # {_COMMENTS[key]}" if key in _COMMENTS else ""
    return f"{key.rpartition('.')[2]} = {_format(value)}{comment}"


def _format(value: Any) -> str:
    """Return a value as TOML. JSON's escapes are those of TOML, except for DEL."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_format, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
