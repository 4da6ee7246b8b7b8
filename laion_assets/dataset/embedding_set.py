"""Embedding sets: further models of a dataset, side by side over the same images."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any

from laion_assets.errors import SettingError
from laion_assets.search.settings import SearchSettings
from laion_assets.stages.clip_embeddings.settings import EmbeddingSettings
from laion_assets.stages.knn_indices.settings import IndexSettings
from laion_assets.stages.search_report.settings import SearchReportSettings

MAX_NAME_CHARS = 64


@dataclass(frozen=True)
class EmbeddingSet:
    """A name, a model, and the groups of settings that differ from the dataset's. None: those of the dataset.

    The set `siglip` of the dataset `mine` is the dataset `mine_siglip`. Two sets may have the same model, for example
    with different settings of the index.
    """

    name: str
    model: str
    embeddings: EmbeddingSettings | None = None
    index: IndexSettings | None = None
    search: SearchSettings | None = None
    search_report: SearchReportSettings | None = None

    @property
    def groups(self) -> dict[str, Any]:
        """The groups of settings that the set has of its own, by name."""
        found = {name: getattr(self, name) for name in GROUPS}
        return {name: group for name, group in found.items() if group is not None}


GROUPS = tuple(field.name for field in fields(EmbeddingSet) if field.name not in ("name", "model"))
"""The groups of settings that an embedding set may have of its own. The others are settings of shared stages."""


def is_set_setting(name: str) -> bool:
    """Whether an embedding set may have its own value of a setting, or group of settings, of this dotted name."""
    return name == "model" or name.partition(".")[0] in GROUPS


def is_dataset_name(name: str) -> bool:
    """Whether this is a valid name of a dataset or an embedding set. Reserved names count as valid."""
    return re.fullmatch(rf"[A-Za-z][A-Za-z0-9_]{{0,{MAX_NAME_CHARS - 1}}}", name) is not None


def check_set_names(dataset: str, sets: Sequence[EmbeddingSet], reserved: Collection[str]) -> None:
    """Raise SettingError for a name that cannot be used in folders, asset keys and variables, and for one used twice.

    Folders and environment variables may not tell upper and lower case apart.
    """
    by_lower_case: dict[str, str] = {}
    for name in (each.name for each in sets):
        if not is_dataset_name(name) or name.lower() in reserved:
            raise SettingError(
                f"Invalid name of an embedding set of {dataset}: {name[:80]!r}. Use 1 to {MAX_NAME_CHARS} ASCII "
                "letters, digits and underscores, starting with a letter, and not the name of a group of settings."
            )
        if name.lower() in by_lower_case:
            raise SettingError(
                f"{dataset} has two embedding sets with the names {by_lower_case[name.lower()]} and {name}. Rename one."
            )
        by_lower_case[name.lower()] = name
