"""One run of the sample's whole graph, through the command line, for all end-to-end tests."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.dataset import Dataset
from laion_assets.store.store import Store

BIN = Path(sys.executable).parent
TOP = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Demo:
    """A finished `laion-assets demo`: its folder, environment and output."""

    home: Path
    first: subprocess.CompletedProcess[str]

    @property
    def root(self) -> Path:
        return self.home / "data"

    @property
    def environment(self) -> dict[str, str]:
        return environment(self.home)

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return command(self.home, *arguments, check=check)


def environment(home: Path) -> dict[str, str]:
    """The environment of a new user with files below `home`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LAION_", "DAGSTER_"))}
    return {**kept, "LAION_ASSETS_ROOT": str(home / "data"), "DAGSTER_HOME": str(home / "dagster_home")}


def command(home: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `laion-assets` in a folder."""
    done = subprocess.run(
        [BIN / "laion-assets", *arguments], capture_output=True, text=True, cwd=home, env=environment(home)
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


_DEMOS: list[Demo] = []
"""The demo of this process, once it was built."""


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """`laion-assets demo` in an empty folder. Other folders of tests import this fixture."""
    return build_demo(tmp_path_factory)


def build_demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Run the demo once per process, also if several folders of tests have the fixture."""
    if not _DEMOS:
        home = tmp_path_factory.mktemp("demo")
        (home / "dagster_home").mkdir()
        shutil.copy(TOP / "dagster_home" / "dagster.yaml", home / "dagster_home")
        _DEMOS.append(Demo(home, command(home, "demo")))
    return _DEMOS[0]


@pytest.fixture
def sample_copy(demo: Demo, tmp_path: Path) -> Callable[..., Dataset]:
    """Create a dataset from a copy of the demo's files (only the named folders, if any), which tests damage."""

    def copy(*folders: str) -> Dataset:
        chosen = folders or tuple(sorted(os.listdir(demo.root / "sample")))
        for folder in (*chosen, "manifests"):
            shutil.copytree(demo.root / "sample" / folder, tmp_path / "data" / "sample" / folder, dirs_exist_ok=True)
        dataset = replace(SAMPLE, root=str(tmp_path / "data"))
        assert Store.of(dataset).local_root == tmp_path / "data" / "sample"
        return dataset

    return copy
