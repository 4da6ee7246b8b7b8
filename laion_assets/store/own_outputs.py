"""Which files of a source this project wrote itself: a dataset never reads its own outputs as its input."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SettingError

_MANIFESTS = "manifests"
"""The folder that each dataset's folder has."""


@dataclass(frozen=True)
class OwnOutputs:
    """The folder of a dataset's outputs, and the root that may hold those of others."""

    root: str
    folder: str

    @classmethod
    def of(cls, dataset: Dataset) -> "OwnOutputs":
        """Of a dataset, whose root may be a path or an fsspec URL."""
        return cls(dataset.root.rstrip("/"), dataset.folder)

    def refuse_inside(self, fs: Any, base: str, setting: str, value: str) -> None:
        """Raise SettingError if `base`, a path of `fs`, is the dataset's own folder or lies in it."""
        root = self._root_in(fs)
        if root is not None and f"{_real(fs, base)}/".startswith(f"{root}/{self.folder}/"):
            raise SettingError(
                f"{setting} is {value}, which lies in the dataset's own folder {self.root}/{self.folder}: its outputs "
                f"would be its input. Set {setting} to another folder, or root to another place."
            )

    def among(self, fs: Any, base: str, found: Mapping[str, Mapping[str, Any]]) -> set[str]:
        """Those of the files found below `base` that lie in the dataset's own folder, or in another dataset's.

        `found` is what `fs.find(base, detail=True)` gives. Other datasets' folders lie in the same root and are known
        by the manifests in them. Links are followed.
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
        """The root as a path of `fs`, None if it is on another file system."""
        import fsspec

        other, root = fsspec.core.url_to_fs(self.root)
        return _real(fs, root) if type(other) is type(fs) else None


def _real(fs: Any, path: str) -> str:
    from fsspec.implementations.local import LocalFileSystem

    path = path.rstrip("/")
    return os.path.realpath(path or "/") if isinstance(fs, LocalFileSystem) else path
