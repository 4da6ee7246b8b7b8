"""The known names of settings, sections and variables, and suggestions for unknown names.

One settings file serves all code locations, so a section or variable may belong to a dataset that this process does not
know. Such a name is accepted unless it resembles a known name, and so may be a typing error. The setting `datasets`
then declares it.
"""

import dataclasses
import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from laion_assets.dataset.built_in import BUILT_IN
from laion_assets.dataset.dataset import RESERVED_NAMES, Dataset
from laion_assets.dataset.embedding_set import is_dataset_name, is_set_setting
from laion_assets.dataset.settings.declared import OWN_KEYS, TABLE
from laion_assets.dataset.settings.declared_sets import SETS, section_of
from laion_assets.errors import SettingError

PREFIX = "LAION_ASSETS_"
FILE_VARIABLE = f"{PREFIX}SETTINGS"
DATASETS_KEY = "datasets"
OTHER_VARIABLES = {
    FILE_VARIABLE: "path of the settings file, by default laion-assets.toml in the current directory",
    f"{PREFIX}DATASETS": "your own dataset names, separated by commas; needed only for names that resemble a known one",
    f"{PREFIX}TAG": "tag of the Docker image in deploy/compose.yaml",
}
"""Variables with the prefix that are not settings of a dataset."""
_SUBSET = re.compile(r"(.+)_[0-9]{2,5}_[0-9]{2,5}")
_MIN_SIMILARITY = 0.8


def declared_fields(kind: type = Dataset, prefix: str = "") -> dict[str, "dataclasses.Field[Any]"]:
    """Return the fields of all settings by dotted name, in the order of declaration."""
    declared: dict[str, dataclasses.Field[Any]] = {}
    for field in dataclasses.fields(kind):
        if "help" in field.metadata:
            declared[f"{prefix}{field.name}"] = field
        elif isinstance(field.type, type) and dataclasses.is_dataclass(field.type) and field.name != "layout":
            declared.update(declared_fields(field.type, f"{prefix}{field.name}."))
    return declared


FIELDS = declared_fields()
_TABLES = {name.rpartition(".")[0] for name in FIELDS} - {""}
_BY_VARIABLE = {name.replace(".", "_").upper(): name for name in FIELDS}


class KnownNames:
    """The datasets known to this process: built in, in use, or declared by the operator.

    `sets` are those of them that are embedding sets, with their sections of the settings file.
    """

    def __init__(self, datasets: Collection[str], sets: Mapping[str, str] | None = None) -> None:
        self._datasets = {name.lower() for name in (*BUILT_IN, *datasets)}
        self._sets = {name.lower(): section for name, section in (sets or {}).items()}

    def check_file(self, table: Mapping[str, Any], file_name: str) -> None:
        """Raise SettingError, with the nearest names, for unknown names in the settings file."""
        for key, value in table.items():
            if key == TABLE:
                for name, declaration in value.items():
                    settings = {each: declaration[each] for each in declaration if each not in OWN_KEYS}
                    self._check_section(settings, file_name, f"{TABLE}.{name}.")
                continue
            if key in FIELDS or key in _TABLES or key == DATASETS_KEY:
                self._check_section({key: value}, file_name, "")
                continue
            if not isinstance(value, Mapping):
                raise self._unknown_setting(key, file_name)
            if not is_dataset_name(key) or (self.owner_problem(key) and not _has_settings(value)):
                raise self._unknown_setting(next(_dotted_names(value, key), key), file_name)
            problem = self.owner_problem(key)
            if problem:
                raise SettingError(f"{file_name} has a section [{key}]: {problem}")
            if key.lower() in self._sets:
                raise SettingError(
                    f"{file_name} has a section [{key}]: {key} is an embedding set. Its section is "
                    f"[{self._sets[key.lower()]}]."
                )
            self._check_section(value, file_name, f"{key}.")

    def check_variable(self, variable: str) -> str | None:
        """Return the unknown dataset that a variable is for, None if it is for all or for a known dataset.

        Raises SettingError, with the nearest names, for an unknown variable.
        """
        rest = variable.removeprefix(PREFIX)
        if variable in OTHER_VARIABLES or rest in _BY_VARIABLE:
            return None
        settings = [name for name in _BY_VARIABLE if rest.endswith(f"_{name}") and rest == rest.upper()]
        by_owner = {rest.removesuffix(f"_{name}").lower(): _BY_VARIABLE[name] for name in settings}
        owners = [owner for owner in by_owner if is_dataset_name(owner)]
        for owner in owners:
            if self.is_known(owner):
                self._check_set_variable(variable, owner, by_owner[owner])
                return None
        if not owners or any(owner.startswith(f"{table.replace('.', '_')}_") for owner in owners for table in _TABLES):
            near = difflib.get_close_matches(variable.upper(), self._variables(), 3, _MIN_SIMILARITY)
            raise SettingError(f"Unknown environment variable {variable}: it is not a setting.{_suggest(near)}{_LIST}")
        problem = self.owner_problem(owners[0])
        if problem:
            raise SettingError(f"Unknown environment variable {variable}: {problem}")
        return owners[0]

    def _check_set_variable(self, variable: str, owner: str, name: str) -> None:
        """Raise SettingError for a variable of an embedding set, or a subset of one, that sets a shared stage."""
        subset = _SUBSET.fullmatch(owner)
        section = self._sets.get(subset[1] if subset else owner)
        if section and not is_set_setting(name):
            whole = section.partition(".")[0]
            raise SettingError(
                f"{variable} sets {name} of an embedding set, which has the value of its dataset. Set "
                f"{PREFIX}{whole.upper()}_{name.replace('.', '_').upper()}."
            )

    def is_known(self, dataset: str) -> bool:
        """Whether this is a known dataset or a subset of one."""
        subset = _SUBSET.fullmatch(dataset.lower())
        return dataset.lower() in self._datasets or bool(subset and subset[1] in self._datasets)

    def owner_problem(self, dataset: str) -> str | None:
        """Return why a name is refused as an unknown dataset: it resembles a known name. None if it is accepted."""
        if self.is_known(dataset):
            return None
        near = difflib.get_close_matches(dataset.lower(), [*self._datasets, *RESERVED_NAMES], 3, _MIN_SIMILARITY)
        if not near:
            return None
        return (
            f"{dataset!r} is not a known dataset.{_suggest(near)} If it is your own dataset, add it to "
            f"`{DATASETS_KEY}` at the top of the settings file, or to {PREFIX}DATASETS."
        )

    def _check_section(self, table: Mapping[str, Any], file_name: str, owner: str, prefix: str = "") -> None:
        for key, value in table.items():
            name = f"{prefix}{key}"
            if name in FIELDS or (name == DATASETS_KEY and not owner):
                continue
            if name == SETS and owner and isinstance(value, Mapping):
                for each, settings in value.items():
                    if isinstance(settings, Mapping):
                        self._check_section(settings, file_name, f"{section_of(owner.rstrip('.'), each)}.")
                continue
            if name not in _TABLES:
                wrong = next(_dotted_names(value, name), name) if isinstance(value, Mapping) else name
                raise self._unknown_setting(f"{owner}{wrong}", file_name)
            if not isinstance(value, Mapping):
                raise SettingError(f"{file_name} sets {owner}{name}: it must be a table, [{owner}{name}].")
            self._check_section(value, file_name, owner, f"{name}.")

    def _unknown_setting(self, name: str, file_name: str) -> SettingError:
        table = _table_of(name)
        bare = name.removeprefix(table)
        of_datasets = [f"{each}.{field}" for each in sorted(self._datasets) for field in (*FIELDS, _SET_MODEL)]
        others = [*OWN_KEYS, _SET_MODEL] if table else of_datasets
        near = difflib.get_close_matches(bare, [*FIELDS, *others], 3, 0.7)
        owner, _, rest = bare.partition(".")
        if not near:  # a setting without its table, such as `threads` for `images.threads`
            last = name.rpartition(".")[2]
            near = [each for each in FIELDS if each.rpartition(".")[2] == last][:3]
            near = [f"{owner}.{each}" if rest and self.is_known(owner) else each for each in near]
        suggestion = _suggest([f"{table}{each}" for each in near])
        return SettingError(f"{file_name} sets {name}, which is not a setting.{suggestion}{_LIST}")

    def _variables(self) -> list[str]:
        owners = ["", *(f"{dataset.upper()}_" for dataset in sorted(self._datasets))]
        return [*OTHER_VARIABLES, *(f"{PREFIX}{owner}{name}" for owner in owners for name in _BY_VARIABLE)]


_SET_MODEL = section_of("", "NAME.model").removeprefix(".")
_LIST = " Run `laion-assets settings` for a list of all settings."


def _table_of(name: str) -> str:
    """Return the start of a dotted name that is the table of an embedding set or of a declared dataset, else ""."""
    if f".{SETS}." in name:
        before, _, after = name.partition(f".{SETS}.")
        return f"{before}.{SETS}.{after.partition('.')[0]}."
    parts = name.split(".")
    return f"{TABLE}.{parts[1]}." if parts[0] == TABLE and len(parts) > 2 else ""


def _suggest(names: Collection[str]) -> str:
    return f" Did you mean {' or '.join(names)}?" if names else ""


def _has_settings(table: Mapping[str, Any]) -> bool:
    """Whether a section may be one of a dataset: its names are settings or tables of settings."""
    return all(key in FIELDS or key in _TABLES or key == SETS for key in table)


def _dotted_names(table: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, value in table.items():
        name = f"{prefix}.{key}"
        if isinstance(value, Mapping) and value:
            yield from _dotted_names(value, name)
        else:
            yield name
