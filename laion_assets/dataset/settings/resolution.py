"""The lookup of settings: in the environment, the settings file, the dataset and its defaults.

The setting `images.threads` of the dataset `sample` has the first value found in this order:
    1. LAION_ASSETS_SAMPLE_IMAGES_THREADS in the environment
    2. LAION_ASSETS_IMAGES_THREADS in the environment
    3. [sample.images] threads in the settings file, and for a dataset that the file declares, [dataset.NAME.images]
    4. [images] threads in the settings file
    5. the declaration of the dataset
A subset has the settings of the whole dataset, unless a setting names the subset itself. So has an embedding set for
its own groups of settings, in [sample.embedding_sets.SET]; its `model` is never that of the dataset.
The settings file is `laion-assets.toml` in the current directory, or the file named by LAION_ASSETS_SETTINGS.
The Dagster UI, its daemon, runs and the command line follow the same rules.
"""

import dataclasses
import difflib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from laion_assets.dataset.built_in import BUILT_IN
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.embedding_set import is_dataset_name
from laion_assets.dataset.settings.declared import TABLE, declared_datasets
from laion_assets.dataset.settings.declared_sets import add_declared_sets, section_of
from laion_assets.dataset.settings.field import allowed_values, format_value
from laion_assets.dataset.settings.file import read_settings_file
from laion_assets.dataset.settings.names import DATASETS_KEY, FILE_VARIABLE, PREFIX, KnownNames
from laion_assets.dataset.settings.registered import registered_datasets, unite
from laion_assets.dataset.settings.values import convert, split_list
from laion_assets.errors import SettingError

DEFAULT_FILE = "laion-assets.toml"


@dataclass(frozen=True)
class Resolved:
    """One setting: its dotted name, value, origin, help, unit and allowed values."""

    name: str
    value: Any
    origin: str
    help: str
    unit: str
    allowed: str


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
        content = read_settings_file(path)
        if content is None and named:
            raise SettingError(
                f"{FILE_VARIABLE} names {path}, which does not exist. Create the file, or unset the variable."
            )
        return cls(content or {}, str(path), environment)

    @property
    def datasets(self) -> dict[str, Dataset]:
        """The built-in datasets, those that the settings file declares, registered ones, and their embedding sets.

        By name, without settings.

        Raises SettingError for a wrong declaration, and for two datasets of one name.
        """
        declared = declared_datasets(self.file, self.file_name)
        references = [name for name in self._listed if isinstance(name, str) and ":" in name]
        own = [(f"{self.file_name} [{TABLE}.{name}]", dataset) for name, dataset in declared.items()]
        groups = [*own, *registered_datasets(references, self.file_name)]
        whole = [self._with_sets(dataset) for dataset in unite(BUILT_IN, groups).values()]
        sets = [
            (f"The embedding set {each.name} of {dataset.name}", dataset.embedding_set(each.name))
            for dataset in whole
            for each in dataset.embedding_sets
        ]
        return unite(BUILT_IN, [*groups, *sets]) | {dataset.name: dataset for dataset in whole}

    def _with_sets(self, dataset: Dataset) -> Dataset:
        return add_declared_sets(dataset, self.file, self.file_name)

    @property
    def _listed(self) -> list[Any]:
        """The items of `datasets`: names of the operator's datasets, and references to Python datasets."""
        named: Any = self.file.get(DATASETS_KEY, [])
        return [named] if isinstance(named, str) and ":" in named else named if isinstance(named, list) else []

    def apply(self, dataset: Dataset) -> Dataset:
        """Return the dataset with every setting resolved and an absolute `root`. Raises SettingError."""
        return self._apply(dataset)[0]

    def explain(self, dataset: Dataset) -> list[Resolved]:
        """Return each setting of the dataset with its value and origin, in the order of declaration."""
        return self._apply(dataset)[1]

    def variables_of_others(self, dataset: Dataset) -> dict[str, str]:
        """Return the variables of unknown datasets, by variable. Raises SettingError for unknown settings."""
        known = self._known_names(dataset)
        known.check_file(self.file, self.file_name)
        owners = {name: known.check_variable(name) for name in sorted(self.environment) if name.startswith(PREFIX)}
        return {name: owner for name, owner in owners.items() if owner is not None}

    def _known_names(self, dataset: Dataset) -> KnownNames:
        named: Any = self.file.get(DATASETS_KEY, [])
        given = split_list(self.environment.get(f"{PREFIX}{DATASETS_KEY.upper()}", ""))
        wrong = [name for name in given if not is_dataset_name(name)]
        listed = [name for name in self._listed if not (isinstance(name, str) and ":" in name)]
        is_list = isinstance(named, list) or listed != self._listed
        if not is_list or not all(isinstance(name, str) and is_dataset_name(name) for name in listed):
            raise SettingError(
                f"{self.file_name} sets {DATASETS_KEY} to {format_value(named)}: it must be a list of names, or "
                'module:name of a list of datasets in Python, such as "mine:datasets".'
            )
        if wrong:
            raise SettingError(
                f"{PREFIX}{DATASETS_KEY.upper()} has {format_value(wrong[0])}: it is not a valid dataset name."
            )
        datasets = [*self.datasets.values(), dataset, *map(dataset.embedding_set, _set_names(dataset))]
        sets = {each.name: section_of(each.folder, each.set_name) for each in datasets if each.set_name}
        names = [*listed, *given, *dataset.parents, *(each.name for each in datasets)]
        return KnownNames(names, sets)

    def _apply(self, dataset: Dataset) -> tuple[Dataset, list[Resolved]]:
        dataset = self._with_sets(dataset)
        self.variables_of_others(dataset)
        found: list[Resolved] = []
        resolved = cast(Dataset, self._resolve_group(dataset, dataset, "", found))
        origin = next(each.origin for each in found if each.name == "root")
        root = resolved.root.removeprefix("file://") if resolved.root.startswith("file:///") else resolved.root
        if "://" in root:
            _check_scheme(root, origin)
        else:
            resolved = dataclasses.replace(resolved, root=_absolute(root, origin))
        return resolved, found

    def _resolve_group(self, group: Any, dataset: Dataset, prefix: str, found: list[Resolved]) -> Any:
        changes: dict[str, Any] = {}
        origins: dict[str, str] = {}
        for field in dataclasses.fields(group):
            declared = getattr(group, field.name)
            name = f"{prefix}{field.name}"
            if "help" in field.metadata:
                raw, origin, is_text = self._look_up(dataset, name)
                value = declared if origin is None else convert(name, raw, field, origin, is_text=is_text)
                if origin is not None:
                    changes[field.name], origins[name] = value, origin
                origin = origin or f"dataset {dataset.name}"
                meaning, unit = field.metadata["help"], field.metadata["unit"]
                found.append(Resolved(name, value, origin, meaning, unit, allowed_values(field)))
            elif dataclasses.is_dataclass(declared) and field.name != "layout":
                changes[field.name] = self._resolve_group(declared, dataset, f"{name}.", found)
        try:
            return dataclasses.replace(group, **changes) if changes else group
        except SettingError as error:  # two settings contradict each other
            sources = [f"{name} comes from {origin}." for name, origin in origins.items() if _names(str(error), name)]
            raise SettingError(" ".join([str(error), *sources])) from error

    def _look_up(self, dataset: Dataset, name: str) -> tuple[Any, str | None, bool]:
        """Return the value, its origin (None if it is not set), and whether it is the text of a variable."""
        owners: tuple[str, ...] = (dataset.name, *dataset.parents)
        is_own_model = name == "model" and bool(dataset.set_name)
        if is_own_model:  # not the model of the dataset or of all datasets
            owners = owners[:-1]
        variable = name.replace(".", "_").upper()
        prefixes = [f"{owner.upper()}_" for owner in owners] + ([] if is_own_model else [""])
        for candidate in (f"{PREFIX}{prefix}{variable}" for prefix in prefixes):
            if candidate in self.environment:
                return self.environment[candidate], f"environment {candidate}", True
        sections = [section for owner in owners for section in _sections(dataset, owner)]
        for path in [f"{section}.{name}" for section in sections] + ([] if is_own_model else [name]):
            value: Any = self.file
            for part in path.split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
            if value is not None:
                return value, f"{self.file_name} [{path}]", False
        return None, None, False


def _set_names(dataset: Dataset) -> list[str]:
    return [each.name for each in dataset.embedding_sets]


def _sections(dataset: Dataset, owner: str) -> tuple[str, str]:
    """Return the sections of the settings file for a dataset or one of those that it is taken from."""
    is_set = bool(dataset.set_name) and owner == f"{dataset.folder}_{dataset.set_name}"
    section = section_of(dataset.folder, dataset.set_name) if is_set else owner
    return section, f"{TABLE}.{section}"


def _absolute(root: str, origin: str) -> str:
    try:
        return str(Path(root).expanduser().absolute())
    except (RuntimeError, OSError) as error:
        raise SettingError(
            f"root is {format_value(root)} (from {origin}): {error} Use an absolute path, without ~."
        ) from error


def _check_scheme(root: str, origin: str) -> None:
    """Raise SettingError for a URL that no fsspec file system can write. Imports no file system."""
    from fsspec.registry import known_implementations, registry

    scheme = root.partition("://")[0]
    known = known_implementations.get(scheme)
    problem = ""
    if scheme in ("http", "https"):
        problem = "web servers cannot be written to"
    elif known is None and scheme not in registry:
        near = difflib.get_close_matches(scheme, known_implementations, 3)
        problem = f"fsspec has no scheme {scheme!r}{f' (did you mean {near[0]}?)' if near else ''}"
    elif known is not None and scheme not in registry and not _is_installed(known["class"].partition(".")[0]):
        problem = f"its file system requires a package that is not installed: {known.get('err', known['class'])}"
    elif scheme == "file":
        problem = "write it as file:///folder or as a path"
    if problem:
        raise SettingError(
            f"root is {format_value(root)} (from {origin}): {problem}. Use a folder, s3://bucket/folder, "
            "gs://bucket/folder or another file system of fsspec."
        )


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _names(message: str, setting: str) -> bool:
    return setting in message or setting.rpartition(".")[2] in message


def known_datasets() -> dict[str, Dataset]:
    """Return the built-in datasets and those of the settings file, by name, without settings.

    Raises SettingError for a settings file with a wrong declaration.
    """
    return Settings.load().datasets


def settings_section(name: str) -> str:
    """Return the section of the settings file for a dataset: `dataset.NAME` if the file declares it, else `NAME`."""
    return f"{TABLE}.{name}" if name in (Settings.load().file.get(TABLE) or {}) else name


def resolve_settings(dataset: Dataset) -> Dataset:
    """Return the dataset with the settings of the settings file and the environment. Raises SettingError."""
    return Settings.load().apply(dataset)
