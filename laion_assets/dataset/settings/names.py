"""The names of settings, sections and variables: which are known, and the nearest ones to a name that is not.

A section or variable may belong to a dataset that this process does not know, for one file serves all code locations.
Such an owner is accepted, unless it looks like a misspelt name that is known here: then the setting `datasets` tells.
"""

import dataclasses
import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from laion_assets.dataset.dataset import DATASETS, RESERVED_NAMES, Dataset, is_dataset_name
from laion_assets.errors import SettingError

PREFIX = "LAION_ASSETS_"
FILE_VARIABLE = f"{PREFIX}SETTINGS"
DATASETS_KEY = "datasets"
OTHER_VARIABLES = {
    FILE_VARIABLE: "the settings file, in the place of laion-assets.toml in the current directory",
    f"{PREFIX}DATASETS": "names of datasets of your own, between commas, where one looks like a misspelt name",
    f"{PREFIX}TAG": "the image's tag in deploy/compose.yaml",
}
"""The variables with the prefix that are not settings of a dataset."""
_SUBSET = re.compile(r"(.+)_[0-9]{2,5}_[0-9]{2,5}")
_LIKENESS = 0.8


def declared_fields(kind: type = Dataset, prefix: str = "") -> dict[str, "dataclasses.Field[Any]"]:
    """The fields of all settings by dotted name, in the order of declaration."""
    found: dict[str, dataclasses.Field[Any]] = {}
    for field in dataclasses.fields(kind):
        if "help" in field.metadata:
            found[f"{prefix}{field.name}"] = field
        elif isinstance(field.type, type) and dataclasses.is_dataclass(field.type) and field.name != "layout":
            found.update(declared_fields(field.type, f"{prefix}{field.name}."))
    return found


FIELDS = declared_fields()
_TABLES = {name.rpartition(".")[0] for name in FIELDS} - {""}
_BY_VARIABLE = {name.replace(".", "_").upper(): name for name in FIELDS}


class KnownNames:
    """The datasets known to this process: the declared ones, those it works with and those named by the operator."""

    def __init__(self, datasets: Collection[str]) -> None:
        self._datasets = {name.lower() for name in (*DATASETS, *datasets)}

    def check_file(self, table: Mapping[str, Any], file_name: str) -> None:
        """Refuse names in the settings file that are not settings. Raises SettingError with the nearest names."""
        for key, value in table.items():
            if key in FIELDS or key in _TABLES or key == DATASETS_KEY:
                self._check_section({key: value}, file_name, "")
                continue
            if not isinstance(value, Mapping):
                raise self._unknown_setting(key, file_name)
            if not is_dataset_name(key) or (self.owner_problem(key) and not _has_settings(value)):
                raise self._unknown_setting(next(_dotted(value, key), key), file_name)
            problem = self.owner_problem(key)
            if problem:
                raise SettingError(f"{file_name} has a section [{key}]: {problem}")
            self._check_section(value, file_name, f"{key}.")

    def check_variable(self, variable: str) -> str | None:
        """The dataset that a variable with the prefix is for; None if for all or this process.

        Raises SettingError with the nearest names for a variable that is not one.
        """
        rest = variable.removeprefix(PREFIX)
        if variable in OTHER_VARIABLES or rest in _BY_VARIABLE:
            return None
        settings = [name for name in _BY_VARIABLE if rest.endswith(f"_{name}")]
        owners = [rest.removesuffix(f"_{name}").lower() for name in settings if rest == rest.upper()]
        owners = [owner for owner in owners if is_dataset_name(owner)]
        for owner in owners:
            if self.is_known(owner):
                return None
        if not owners or any(owner.startswith(f"{table.replace('.', '_')}_") for owner in owners for table in _TABLES):
            near = difflib.get_close_matches(variable.upper(), self._variables(), 3, _LIKENESS)
            raise SettingError(f"The environment has {variable}, which is not a setting.{_nearest(near)}{_LIST}")
        problem = self.owner_problem(owners[0])
        if problem:
            raise SettingError(f"The environment has {variable}: {problem}")
        return owners[0]

    def is_known(self, dataset: str) -> bool:
        """Whether this is a dataset known here, or a subset of one."""
        subset = _SUBSET.fullmatch(dataset.lower())
        return dataset.lower() in self._datasets or bool(subset and subset[1] in self._datasets)

    def owner_problem(self, dataset: str) -> str | None:
        """Why a name cannot be that of a dataset unknown here: it looks like a name that is known."""
        if self.is_known(dataset):
            return None
        near = difflib.get_close_matches(dataset.lower(), [*self._datasets, *RESERVED_NAMES], 3, _LIKENESS)
        if not near:
            return None
        return (
            f"{dataset!r} is not a known dataset.{_nearest(near)} If it is a dataset of your own, add it to "
            f"`{DATASETS_KEY}` at the top of the settings file, or to {PREFIX}DATASETS."
        )

    def _check_section(self, table: Mapping[str, Any], file_name: str, owner: str, prefix: str = "") -> None:
        for key, value in table.items():
            name = f"{prefix}{key}"
            if name in FIELDS or (name == DATASETS_KEY and not owner):
                continue
            if name not in _TABLES:
                wrong = next(_dotted(value, name), name) if isinstance(value, Mapping) else name
                raise self._unknown_setting(f"{owner}{wrong}", file_name)
            if not isinstance(value, Mapping):
                raise SettingError(f"{file_name} sets {owner}{name}: it must be a table, [{owner}{name}].")
            self._check_section(value, file_name, owner, f"{name}.")

    def _unknown_setting(self, name: str, file_name: str) -> SettingError:
        names = [*FIELDS, *(f"{dataset}.{name}" for dataset in sorted(self._datasets) for name in FIELDS)]
        near = difflib.get_close_matches(name, names, 3, 0.7)
        owner, _, rest = name.partition(".")
        if not near:  # a setting without its table, as `threads` for `images.threads`
            last = name.rpartition(".")[2]
            near = [each for each in FIELDS if each.rpartition(".")[2] == last][:3]
            near = [f"{owner}.{each}" if rest and self.is_known(owner) else each for each in near]
        return SettingError(f"{file_name} sets {name}, which is not a setting.{_nearest(near)}{_LIST}")

    def _variables(self) -> list[str]:
        owners = ["", *(f"{dataset.upper()}_" for dataset in sorted(self._datasets))]
        return [*OTHER_VARIABLES, *(f"{PREFIX}{owner}{name}" for owner in owners for name in _BY_VARIABLE)]


_LIST = " `laion-assets settings` prints all of them."


def _nearest(names: Collection[str]) -> str:
    return f" Did you mean {' or '.join(names)}?" if names else ""


def _has_settings(table: Mapping[str, Any]) -> bool:
    """Whether a section has the form of a dataset's: its names are settings or tables of settings."""
    return all(key in FIELDS or key in _TABLES for key in table)


def _dotted(table: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, value in table.items():
        name = f"{prefix}.{key}"
        if isinstance(value, Mapping) and value:
            yield from _dotted(value, name)
        else:
            yield name
