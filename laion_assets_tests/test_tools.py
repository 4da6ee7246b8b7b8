"""The tools of the lock files: the files that are locked, and an audit that reports when it checked nothing."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TOP = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-cpu.lock", "requirements-cuda.lock")
ENTRY = r'[A-Za-z0-9._-]+==\S+( ; sys_platform == "linux")?(\s+--hash=sha256:[0-9a-f]{64})+'


def load_tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOP / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_one_version_and_hashes(name: str) -> None:
    text = (TOP / name).read_text()
    entries = re.sub(r"#.*\n", "", text).replace("\\\n", " ").splitlines()
    assert entries
    for entry in entries:
        assert re.fullmatch(ENTRY, entry), entry
    names = [re.sub(r"[-_.]+", "-", entry.partition("==")[0]).lower() for entry in entries]
    assert len(names) == len(set(names))


def test_torch_is_locked_once_for_cpus_and_once_for_cuda() -> None:
    found = [re.findall(r"^torch==\S+", (TOP / name).read_text(), re.MULTILINE) for name in LOCKS]
    assert found == [[], ["torch==2.13.0+cpu"], ["torch==2.13.0"]]
    assert load_tool("lock").is_of("torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl", "torch", "2.13.0+cpu")


@pytest.mark.parametrize(
    ("file", "installable"),
    [
        ("numpy-1.26.4-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", True),
        ("numpy-1.26.4-cp311-cp311-macosx_11_0_arm64.whl", True),
        ("numpy-1.26.4.tar.gz", True),
        ("numpy-1.26.4-cp39-abi3-win_amd64.whl", True),
        ("numpy-1.26.4-py3-none-any.whl", True),
        ("numpy-1.26.4-py2.py3-none-any.whl", True),
        ("numpy-1.26.4+cpu-cp311-cp311-linux_x86_64.whl", False),
        ("numpy-1.26.4-cp312-cp312-manylinux_2_17_x86_64.whl", True),
        ("numpy-1.26.4-cp312-abi3-manylinux_2_17_x86_64.whl", True),
        ("numpy-1.26.4-cp313-cp313-manylinux_2_17_x86_64.whl", False),
        ("numpy-1.26.4-pp39-pypy39_pp73-win_amd64.whl", False),
        ("numpy-1.26.5-py3-none-any.whl", False),
        ("numpy_x-1.26.4-py3-none-any.whl", False),
        ("numpy-1.26.4.exe", False),
    ],
)
def test_files_for_the_supported_versions_of_python_are_locked(file: str, installable: bool) -> None:
    assert load_tool("lock").is_of(file, "NumPy", "1.26.4") is installable


@pytest.mark.parametrize(
    ("dependencies", "status", "message"),
    [
        ([{"name": "a", "skip_reason": "not found"}], 2, "Nothing was checked"),
        ([{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "x"}], 0, "1 of 2 packages checked"),
        ([{"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1999-1"]}]}], 0, "0 advisories"),
        ([{"name": "a", "version": "1", "vulns": [{"id": "CVE-1999-2", "fix_versions": ["2"]}]}], 1, "a 1: CVE-1999-2"),
    ],
)
def test_audit_names_unknown_advisories_and_reports_when_it_checked_nothing(
    tmp_path: Path, dependencies: list[dict[str, Any]], status: int, message: str
) -> None:
    page, program = tmp_path / "page.md", tmp_path / "pip-audit"
    page.write_text("CVE-1999-1 does not reach us.")
    program.write_text(f"#!{sys.executable}\nprint({json.dumps({'dependencies': dependencies})!r})\n")
    program.chmod(0o755)
    command = [sys.executable, TOP / "tools" / "audit.py", "--pip-audit", program, "--page", page, "requirements.lock"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=TOP)
    assert (done.returncode, message in done.stdout) == (status, True), done.stdout + done.stderr


def test_failed_audit_is_reported(tmp_path: Path) -> None:
    program = tmp_path / "pip-audit"
    program.write_text(f"#!{sys.executable}\nraise SystemExit('no network')\n")
    program.chmod(0o755)
    command = [sys.executable, TOP / "tools" / "audit.py", "--pip-audit", program, "requirements.lock"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=TOP)
    assert (done.returncode, "no network" in done.stdout) == (2, True)


def test_make_help_lists_every_target_except_programs() -> None:
    makefile = (TOP / "Makefile").read_text(encoding="utf-8")
    described = set(re.findall(r"^([a-z-]+):.*?## \S", makefile, re.MULTILINE))
    programs = set(re.findall(r"^(\w+):\n\t@\.ci/apt-install ", makefile, re.MULTILINE))
    (phony,) = re.findall(r"^\.PHONY:((?:.*\\\n)*.*)$", makefile, re.MULTILINE)
    assert set(phony.replace("\\", " ").split()) == described | programs
    assert set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE)) == described | programs
    assert {"help", "demo", "test", "lint", "bench-images"} <= described
    assert {"java", "chromium"} <= programs
