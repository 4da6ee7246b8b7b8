"""Private Dagster APIs are used in one module, written for one release."""

import re
from pathlib import Path

import dagster as dg

import laion_assets
from laion_assets.orchestration.private_dagster import DAGSTER

PACKAGE = Path(laion_assets.__file__).parent
PRIVATE = re.compile(r"^\s*(?:from|import) dagster(?:_[a-z]+)?\._", re.MULTILINE)


def test_the_installed_dagster_is_the_release_that_the_private_uses_are_written_for() -> None:
    assert dg.__version__ == DAGSTER, "read orchestration/private_dagster.py again before you change this"


def test_no_other_module_imports_a_private_api_of_dagster() -> None:
    found = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if PRIVATE.search(path.read_text())]
    assert found == ["orchestration/private_dagster.py"]
