"""Embedding sets that the settings file declares, each in a table `[NAME.embedding_sets.SET]` of its dataset.

    [sample.embedding_sets.small]
    model = "open_clip:ViT-B-32/laion2b_s34b_b79k"
    [sample.embedding_sets.small.index]
    max_index_memory_usage = "4G"

A dataset that the file declares may have them in `[dataset.NAME.embedding_sets.SET]`, too.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.embedding_set import GROUPS, EmbeddingSet
from laion_assets.dataset.settings.declared import TABLE
from laion_assets.dataset.settings.field import format_value
from laion_assets.errors import SettingError

SETS = "embedding_sets"
"""The table of a dataset that holds its embedding sets."""


def section_of(dataset: str, name: str) -> str:
    """Return the section of the settings file for an embedding set of a dataset."""
    return f"{dataset}.{SETS}.{name}"


def add_declared_sets(dataset: Dataset, file: Mapping[str, Any], file_name: str) -> Dataset:
    """Return the dataset with the embedding sets of the settings file, in addition to its own.

    A table of a set that the dataset has already only changes its settings. Raises SettingError naming the table.
    """
    if dataset.parents:
        return dataset
    models, places = dict[str, str](), dict[str, str]()
    for where, name, table in _tables(dataset.name, file, file_name):
        _check_keys(where, table)
        model = table.get("model")
        if model is not None and not isinstance(model, str):
            raise SettingError(f"{where} sets model to {format_value(model)}: it must be a text.")
        models[name], places[name] = model or models.get(name, ""), where
    known = {each.name for each in dataset.embedding_sets}
    new = {name: model for name, model in models.items() if name not in known}
    if missing := [name for name, model in new.items() if not model]:
        raise SettingError(f'{places[missing[0]]} has no model. Add one, for example model = "ViT-L/14".')
    added = tuple(EmbeddingSet(name, model) for name, model in new.items())
    try:
        return replace(dataset, embedding_sets=(*dataset.embedding_sets, *added)) if added else dataset
    except SettingError as error:
        raise SettingError(f"{file_name}: {error}") from error


def _check_keys(where: str, table: Mapping[str, Any]) -> None:
    """Raise SettingError for a setting that an embedding set cannot have. `KnownNames` checks those in its groups."""
    own = ("model", *GROUPS)
    for key in table:
        if key not in own:
            near = difflib.get_close_matches(key, own, 1)
            raise SettingError(
                f"{where} sets {key}.{f' Did you mean {near[0]}?' if near else ''} An embedding set has only "
                f"{', '.join(own[:-1])} and {own[-1]} of its own; its other settings are those of its dataset."
            )


def _tables(dataset: str, file: Mapping[str, Any], file_name: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield the tables of the embedding sets of a dataset: where each is, the name of the set, and the table."""
    declared = file.get(TABLE)
    sections = [(dataset, file.get(dataset))]
    if isinstance(declared, Mapping):
        sections.append((f"{TABLE}.{dataset}", declared.get(dataset)))
    for section, content in sections:
        tables = content.get(SETS, {}) if isinstance(content, Mapping) else {}
        if not isinstance(tables, Mapping):
            raise SettingError(
                f"{file_name} sets {section}.{SETS} to {format_value(tables)}: it must be a table for each embedding "
                f"set, [{section_of(section, 'NAME')}]."
            )
        for name, table in tables.items():
            where = f"{file_name} [{section_of(section, name)}]"
            if not isinstance(table, Mapping):
                raise SettingError(
                    f"{where} is {format_value(table)}: it must be a table with at least a model, "
                    'for example { model = "ViT-L/14" }.'
                )
            yield where, name, table
