"""Recognition of this project's own outputs in a source: a dataset never reads its outputs as its input."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SettingError

_MANIFESTS = "manifests"
"""A folder that every dataset has."""


@dataclass(frozen=True)
class OwnOutputs:
    """The folder of a dataset's outputs, and the root, which may have the folders of other datasets."""

    root: str
    folder: str

    @classmethod
    def of(cls, dataset: Dataset) -> "OwnOutputs":
        """Return the folders of a dataset. Its root is a path or an fsspec URL."""
        return cls(dataset.root.rstrip("/"), dataset.folder)

    def refuse_inside(self, fs: Any, base: str, setting: str, value: str) -> None:
        """Raise SettingError if `base`, a path of `fs`, is the dataset's own folder or is inside of it."""
        root = self._root_in(fs)
        if root is not None and f"{_real(fs, base)}/".startswith(f"{root}/{self.folder}/"):
            raise SettingError(
                f"{setting} is {value}, inside of the dataset's own folder {self.root}/{self.folder}. A dataset cannot "
                f"read its own outputs. Set {setting} to another folder, or change root."
            )

    def among(self, fs: Any, base: str, found: Mapping[str, Mapping[str, Any]]) -> set[str]:
        """Return the files below `base` that are in the folder of this dataset or of another dataset.

        `found` is the result of `fs.find(base, detail=True)`. Folders of other datasets are in the same root, and are
        recognised by their manifests. Links are followed.
        """
        root = self._root_in(fs)
        if root is None:
            return set()
        real_base = _real(fs, base)
        below: dict[str, str] = {}
        for name, info in found.items():
            path = _real(fs, name) if info.get("islink") else real_base + name.removeprefix(base.rstrip("/"))
            if path.startswith(f"{root}/"):
                below[name] = path[len(root) + 1 :]
        parts = {name: path.split("/", 2) for name, path in below.items()}
        datasets = {each[0] for each in parts.values() if len(each) > 2 and each[1] == _MANIFESTS} | {self.folder}
        return {name for name, each in parts.items() if each[0] in datasets}

    def _root_in(self, fs: Any) -> str | None:
        """Return the root as a path of `fs`, None if it is on another file system."""
        import fsspec

        other, root = fsspec.core.url_to_fs(self.root)
        return _real(fs, root) if type(other) is type(fs) else None


def _real(fs: Any, path: str) -> str:
    from fsspec.implementations.local import LocalFileSystem

    path = path.rstrip("/")
    return os.path.realpath(path or "/") if isinstance(fs, LocalFileSystem) else path
