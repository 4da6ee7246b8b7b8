"""Where each setting's value comes from: environment, settings file, the dataset's declaration, or the default.

A setting `images.threads` of the dataset `sample` is looked up, first found wins, as
    1. LAION_ASSETS_SAMPLE_IMAGES_THREADS in the environment
    2. LAION_ASSETS_IMAGES_THREADS in the environment
    3. [sample.images] threads in the settings file
    4. [images] threads in the settings file
    5. what the dataset declares
A subset of a dataset has the settings of the whole, unless one is given for its own name.
The settings file is `laion-assets.toml` in the current directory, or the file that LAION_ASSETS_SETTINGS names.
The same rules hold for the Dagster page, its daemon, runs and the command line.
"""

import dataclasses
import json
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from laion_assets.datasets import DATASETS, Dataset
from laion_assets.errors import SettingError

PREFIX = "LAION_ASSETS_"
FILE_VARIABLE = "LAION_ASSETS_SETTINGS"
DEFAULT_FILE = "laion-assets.toml"


@dataclass(frozen=True)
class Resolved:
    """One setting: its dotted name, value, where it came from, and what it means."""

    name: str
    value: Any
    origin: str
    help: str
    unit: str


@dataclass(frozen=True)
class Settings:
    """The settings file and the environment, read once."""

    file: Mapping[str, Any]
    file_name: str
    environment: Mapping[str, str]

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read the settings file and the environment. Raises SettingError for a missing or malformed file."""
        environment = dict(os.environ if environment is None else environment)
        named = environment.get(FILE_VARIABLE)
        path = Path(named or DEFAULT_FILE)
        if not path.exists():
            if named:
                raise SettingError(f"{FILE_VARIABLE} names {path}, which does not exist: create it or unset the name.")
            return cls({}, str(path), environment)
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingError(f"{path} is not valid TOML: {error}. Correct it there.") from error
        settings = cls(content, str(path), environment)
        settings._refuse_unknown()
        return settings

    def apply(self, dataset: Dataset) -> Dataset:
        """The dataset with every setting resolved; `root` becomes absolute. Raises SettingError."""
        return self._apply(dataset)[0]

    def explain(self, dataset: Dataset) -> list[Resolved]:
        """Each setting of the dataset with value and origin, in the order of declaration."""
        return self._apply(dataset)[1]

    def _apply(self, dataset: Dataset) -> tuple[Dataset, list[Resolved]]:
        found: list[Resolved] = []
        resolved = cast(
            Dataset, self._resolve_group(dataset, tuple(filter(None, (dataset.name, dataset.part_of))), "", found)
        )
        if "://" not in resolved.root:
            resolved = dataclasses.replace(resolved, root=str(Path(resolved.root).expanduser().absolute()))
        return resolved, found

    def _resolve_group(self, group: Any, datasets: tuple[str, ...], prefix: str, found: list[Resolved]) -> Any:
        changes: dict[str, Any] = {}
        hints = typing.get_type_hints(type(group))
        for field in dataclasses.fields(group):
            declared = getattr(group, field.name)
            name = f"{prefix}{field.name}"
            if dataclasses.is_dataclass(declared) and field.name != "layout":
                changes[field.name] = self._resolve_group(declared, datasets, f"{name}.", found)
            elif "help" in field.metadata:
                raw, origin = self._look_up(datasets, name)
                value = declared if origin is None else convert(name, raw, hints[field.name], origin)
                changes[field.name] = value
                found.append(
                    Resolved(
                        name, value, origin or f"dataset {datasets[0]}", field.metadata["help"], field.metadata["unit"]
                    )
                )
        return dataclasses.replace(group, **changes)

    def _look_up(self, datasets: tuple[str, ...], name: str) -> tuple[Any, str | None]:
        variable = name.replace(".", "_").upper()
        for candidate in [*(f"{PREFIX}{dataset.upper()}_{variable}" for dataset in datasets), f"{PREFIX}{variable}"]:
            if candidate in self.environment:
                return self.environment[candidate], f"environment {candidate}"
        for path in [*((dataset, *name.split(".")) for dataset in datasets), tuple(name.split("."))]:
            value: Any = self.file
            for part in path:
                value = value.get(part) if isinstance(value, Mapping) else None
            if value is not None:
                return value, f"{self.file_name} [{'.'.join(path)}]"
        return None, None

    def _refuse_unknown(self) -> None:
        known = {setting.name for setting in Settings({}, "", {}).explain(next(iter(DATASETS.values())))}
        maps = {"resolve", "metadata.spark_conf"}
        for name in _dotted(self.file, maps):
            bare = name.split(".", 1)[1] if name.split(".")[0] in DATASETS and "." in name else name
            if bare not in known:
                raise SettingError(
                    f"{self.file_name} sets {name}, which is no setting. `laion-assets settings` prints all of them."
                )


def convert(name: str, raw: Any, kind: Any, origin: str) -> Any:
    """`raw` as the field's type; text of the environment is parsed. Raises SettingError naming setting and origin."""
    target = typing.get_origin(kind) or kind
    if target is types.UnionType:
        target = typing.get_args(kind)[0]
    try:
        if target is tuple:
            items = [item.strip() for item in raw.split(",") if raw.strip()] if isinstance(raw, str) else raw
            inner = typing.get_args(kind)[0]
            return tuple(inner(item) for item in items)
        if target is dict:
            value = json.loads(raw) if isinstance(raw, str) else dict(raw)
            return {str(key): str(item) for key, item in value.items()}
        if target is bool:
            return {"true": True, "1": True, "false": False, "0": False}[str(raw).lower()]
        if target in (int, float) and isinstance(raw, bool):
            raise ValueError("a number is wanted")
        return target(raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        shape = "a JSON object" if target is dict else getattr(target, "__name__", str(target))
        raise SettingError(f"{name} is {raw!r} (from {origin}): it has to be {shape}.") from error


def _dotted(table: Mapping[str, Any], maps: set[str], prefix: str = "") -> list[str]:
    names: list[str] = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        is_map = name in maps or name.split(".", 1)[-1] in maps
        names += _dotted(value, maps, f"{name}.") if isinstance(value, Mapping) and not is_map else [name]
    return names


def configured(dataset: Dataset) -> Dataset:
    """The dataset as the settings file and the environment have it."""
    return Settings.load().apply(dataset)
