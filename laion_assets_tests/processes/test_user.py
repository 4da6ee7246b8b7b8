"""For a user without a name or home folder, libraries get both. The meaning of settings does not change."""

import os
import sys
from pathlib import Path

import pytest

from laion_assets.processes import user
from laion_assets_tests.processes.nameless import UID, run_nameless

PLOT = """
import os
from laion_assets.stages.plots import _make_axes, _to_svg
figure, _ = _make_axes(2, 2)
print(len(_to_svg(figure, "x")) > 1000, os.environ["USER"], os.environ.get("HOME"))
import torch
"""
SPARK = """
from laion_assets.orchestration.resources.spark import SparkResource, end_jvm
spark = SparkResource(master="local[1]", driver_memory="1g")
try:
    context = spark.session().sparkContext
    print(spark.session().range(3).count(), context.sparkUser(), context._jvm.System.getProperty("java.io.tmpdir"))
finally:
    end_jvm()
"""


def test_plots_are_drawn_without_a_home(tmp_path: Path) -> None:
    for home in ({}, {"HOME": "/nonexistent"}):
        done = run_nameless([sys.executable, "-c", PLOT], {"TMPDIR": str(tmp_path), **home}, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["True", f"uid{UID}", str(home.get("HOME"))]
    assert [path.name for path in tmp_path.iterdir()] == [f"laion-assets-{UID}"]


def test_spark_starts_without_a_home(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    done = run_nameless([sys.executable, "-c", SPARK], {"TMPDIR": str(tmp_path / "a b")}, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == f"3 uid{UID} {tmp_path / 'a b'}"


def test_a_temporary_folder_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    usual = tmp_path / f"laion-assets-{os.getuid()}"
    assert user.cache_folder() == usual
    assert usual.stat().st_mode & 0o777 == 0o700
    usual.chmod(0o777)
    assert user.cache_folder() != usual
    usual.rmdir()
    usual.symlink_to(tmp_path)
    assert user.cache_folder() not in (usual, tmp_path)


def test_a_writable_home_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert user.cache_folder() == tmp_path / ".cache"
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert user.cache_folder() == Path("/caches")
