"""Datasets that are values of Python modules: of installed packages, and of the module that the settings file names.

    [project.entry-points."laion_assets.datasets"]     in the pyproject.toml of a package
    cats = "cats.datasets:CATS"

    datasets = "mine:datasets"                          at the top of laion-assets.toml

The object is a Dataset, a list or another iterable of them, or a function that returns one of these. The module of the
settings file is also found in that file's folder. Its code runs in every command, as the code of an installed package.
"""

import contextlib
import functools
import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.settings.field import format_value
from laion_assets.errors import LaionAssetsError, SettingError

GROUP = "laion_assets.datasets"
"""The group of entry points of packages that have datasets."""


def registered_datasets(references: Iterable[str], file_name: str) -> list[tuple[str, Dataset]]:
    """Return the datasets of entry points and of these references (`module:name`), each with where it comes from.

    Raises SettingError naming the reference whose module cannot be imported or has something else.
    """
    found = []
    for entry in _entry_points():
        where = f"The entry point {entry.name} = {entry.value!r} of {entry.dist.name if entry.dist else GROUP}"
        found += [(where, dataset) for dataset in _load(entry, where)]
    for reference in references:
        where = f"{file_name} sets datasets to {format_value(reference)}"
        with _importable(Path(file_name).absolute().parent):
            found += [(where, dataset) for dataset in _load(EntryPoint("datasets", reference, GROUP), where)]
    return found


def unite(built_in: Mapping[str, Dataset], groups: Iterable[tuple[str, Dataset]]) -> dict[str, Dataset]:
    """Return built-in datasets and these, by name. `groups` also say where each comes from.

    Raises SettingError for two whose names differ at most in upper and lower case.
    """
    united = dict(built_in)
    origins = {name.lower(): "this package" for name in built_in}
    for where, dataset in groups:
        twin = origins.get(dataset.name.lower())
        if twin is not None:
            raise SettingError(
                f"{where}: the dataset name {dataset.name} is taken by {twin}. Their folders, asset keys and variables "
                "would be the same. Rename one."
            )
        united[dataset.name] = dataset
        origins[dataset.name.lower()] = where
    return united


@functools.cache
def _entry_points() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=GROUP))


def _load(entry: EntryPoint, where: str) -> list[Dataset]:
    try:
        value: Any = getattr(importlib.import_module(entry.module), entry.attr) if entry.attr else None
        value = value() if callable(value) else value
        found = [value] if isinstance(value, Dataset) else list(value)
    except LaionAssetsError as error:
        raise SettingError(f"{where}: {error}") from error
    except Exception as error:  # of a module of the user
        raise SettingError(
            f"{where}: {type(error).__name__}: {error}. Expected module:name of a Dataset, of a list of them, or of a "
            "function that returns one."
        ) from error
    if wrong := next((each for each in found if not isinstance(each, Dataset)), None):
        raise SettingError(f"{where}: it has {format_value(wrong)}, which is not a laion_assets.Dataset.")
    return found


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Make the modules of a folder importable, after those of the path."""
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
