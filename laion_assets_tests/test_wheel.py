"""The wheel has every file of the package, and its command works in an empty folder, without the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
BUILD = """
import sys
from setuptools import setup

out = sys.argv[1]
places = ["egg_info", "--egg-base", out, "build", "--build-base", out + "/build", "bdist_wheel", "-d", out]
setup(script_args=["-q", *places])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, in which nothing is written."""
    out = tmp_path_factory.mktemp("wheel")
    done = subprocess.run([sys.executable, "-c", BUILD, out], cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_has_every_file_of_the_package_and_no_tests(wheel: Path) -> None:
    files = [path for path in (TOP / "laion_assets").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == {path.relative_to(TOP).as_posix() for path in files}


def test_an_installed_wheel_declares_and_loads_a_dataset_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    site, empty = tmp_path / "site", tmp_path / "empty"
    zipfile.ZipFile(wheel).extractall(site)
    (empty / "pairs").mkdir(parents=True)
    (empty / "pairs" / "a.csv").write_text("url,caption\nhttp://a.test/1.jpg,one\nhttp://a.test/2.jpg,two\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LAION_", "DAGSTER_"))}

    def run(program: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-c", program, *arguments],
            cwd=empty,
            env={**kept, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    command = "from laion_assets.cli import main; main()"
    run(command, "init", "mine", "--from", "pairs", "--no-check-urls", "--yes")
    assert "run 1 of 1: 1 missing" in run(command, "materialize", "--dataset", "mine", "--dry-run")
    written = run(
        "from laion_assets.orchestration.code_locations import write_workspace\n"
        "from laion_assets.orchestration.instance import dagster_home\n"
        "import laion_assets\n"
        "print(laion_assets.__file__, write_workspace(dagster_home()).read_text())"
    )
    assert str(site) in written
    assert '"declared"' in written
    assert (empty / "dagster_home" / "dagster.yaml").read_bytes() == (TOP / "dagster_home/dagster.yaml").read_bytes()
