"""A new Dagster project, created with `create-dagster`, in which `dg` finds this package's component."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Project:
    """A folder with a `pyproject.toml` that has `[tool.dg]`, and the environment for `dg` in it."""

    folder: Path
    environment: dict[str, str]

    @property
    def defs(self) -> Path:
        return self.folder / "src" / "host" / "defs"

    def dg(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `dg`. Its output is not wrapped to a narrow terminal."""
        return subprocess.run(
            [BIN / "dg", *arguments], capture_output=True, text=True, cwd=self.folder, env=self.environment
        )


def environment(folder: Path, source: Path) -> dict[str, str]:
    """The environment of a user of `dg` whose files are in `folder`, with the project's modules in `source`.

    The entry points of setup.cfg are installed into `folder`, as `pip install` would write them: the test does not
    depend on how this package is installed.
    """
    home, installed = folder / "home", folder / "installed"
    for each in (home, installed):
        each.mkdir(exist_ok=True)
    subprocess.run(
        [sys.executable, "-c", "from setuptools import setup; setup()", "-q", "egg_info", "--egg-base", installed],
        check=True,
        cwd=TOP,
        capture_output=True,
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LAION_", "DAGSTER_"))}
    return {
        **kept,
        "HOME": str(home),
        "DAGSTER_HOME": str(home),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "DAGSTER_DG_UPDATE_CHECK_ENABLED": "0",
        "COLUMNS": "200",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": str(BIN.parent),
        "PYTHONPATH": os.pathsep.join(map(str, (installed, TOP, source))),
    }


def new_project(folder: Path) -> Project:
    """Make the project `host` in `folder`."""
    project = Project(folder / "host", environment(folder, folder / "host" / "src"))
    subprocess.run(
        [BIN / "create-dagster", "project", "host", "--no-uv-sync"],
        check=True,
        capture_output=True,
        cwd=folder,
        env=project.environment,
    )
    return project
