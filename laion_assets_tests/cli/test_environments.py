"""Other locales, and unusable roots and Dagster folders: the same output, or an error of one sentence."""

import errno
import os
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.settings.resolution import Settings
from laion_assets.errors import LaionAssetsError, SettingError
from laion_assets.orchestration.instance import dagster_home, instance
from laion_assets.orchestration.writable_folders import describe, require_writable
from laion_assets_tests.cli.test_commands import run
from laion_assets_tests.end_to_end.conftest import BIN, environment

__all__ = ["run"]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""The POSIX locale without Python's UTF-8 coercion: file names, arguments and output are ASCII."""
WRITING = (["demo"], ["materialize", "raw_csv"], ["statistics"])
READING = (["status"], ["search", "x"], ["trace", "0" * 32])


@pytest.mark.parametrize(
    "arguments",
    [["settings", "-d", "sample"], ["fetch", "http://127.0.0.1/数据.jpg"], ["status", "--json"], ["--help"]],
    ids=lambda arguments: arguments[0],
)
def test_a_command_prints_the_same_bytes_in_every_locale(tmp_path: Path, arguments: list[str]) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[spark]\nconf = {"spark.app.label" = "数据 ☃"}\n', encoding="utf-8")
    kept = {name: value for name, value in environment(tmp_path).items() if not name.startswith(("LC_", "LANG"))}
    kept |= {"LAION_ASSETS_SETTINGS": str(file), "LAION_ASSETS_ROOT": str(tmp_path / "数据")}
    printed = []
    for locale in ({"LC_ALL": "C.UTF-8"}, ASCII, {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "latin-1"}):
        done = subprocess.run([BIN / "laion-assets", *arguments], cwd=tmp_path, env=kept | locale, capture_output=True)
        assert done.returncode == 0, done.stderr
        lines = (done.stdout + done.stderr).splitlines()
        printed.append([line for line in lines if b"seconds" not in line])
    assert printed[0] == printed[1]
    assert printed[2], "no crash with an output encoding chosen by the user"


@pytest.mark.parametrize("arguments", [*WRITING, *READING], ids=" ".join)
@pytest.mark.parametrize("place", ["a file", "no folder can be made", "an unknown scheme", "a web server"])
def test_unusable_root_is_reported_in_one_sentence(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, arguments: list[str]
) -> None:
    (tmp_path / "file").touch()
    root = {
        "a file": str(tmp_path / "file"),
        "no folder can be made": "/proc/laion",
        "an unknown scheme": "s33://bucket/data",
        "a web server": "https://example.org/data",
    }[place]
    monkeypatch.setenv("LAION_ASSETS_SAMPLE_ROOT", root)
    done = run(*arguments)
    if (place, arguments) == ("no folder can be made", ["status"]):
        assert done.returncode == 0, "nothing exists, and nothing is written"
        return
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("laion-assets: ")]
    assert root.split(":")[0] in sentence or "knn_indices" in sentence or "dedup_parquet" in sentence
    if arguments in WRITING:
        assert "root" in sentence
        assert "Use a folder" in sentence or "Set root (LAION_ASSETS_ROOT)" in sentence


@pytest.mark.parametrize(
    ("home", "message"),
    [
        ("/proc/laion", "cannot be written: No such file or directory"),
        ("{tmp}/file", "is a file, not a folder"),
        ("{tmp}/a%b", "has a % or ? in its path"),
        ("{tmp}/a?b", "has a % or ? in its path"),
    ],
)
def test_unusable_dagster_home_is_reported_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str, message: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DAGSTER_HOME", home.format(tmp=tmp_path))
    with pytest.raises(SettingError) as raised:
        dagster_home()
    assert message in str(raised.value)
    assert "Set DAGSTER_HOME to" in str(raised.value)


def test_instance_that_cannot_be_opened_is_reported_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text("storage: {nonsense: 3}\n")
    with pytest.raises(SettingError, match=r"cannot be opened: .*Correct .*dagster\.yaml"), instance():
        pass
    (tmp_path / "dagster.yaml").unlink()
    with instance():
        pass
    (tmp_path / "history" / "runs.db").write_bytes(b"no database" * 1_000)
    with pytest.raises(SettingError, match=r"cannot be opened: .*DatabaseError"), instance():
        pass


def test_full_database_is_reported_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    full = OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))
    with (
        pytest.raises(LaionAssetsError, match="failed: database or disk is full"),
        instance(),
    ):
        raise full


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["mkdir", "write"])
def test_system_errors_are_reported_in_the_words_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, call: str
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(code, os.strerror(code), str(tmp_path))

    if call == "mkdir":
        monkeypatch.setattr(Path, "mkdir", refuse)
    else:
        monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(SettingError) as raised:
        require_writable(tmp_path / "a", "root", "Set it.")
    assert str(raised.value) == f"root: {tmp_path / 'a'} cannot be written: {os.strerror(code)}. Set it."


def test_unexpected_system_error_is_reported_in_one_line() -> None:
    message = describe(OSError(errno.ENOTDIR, "x", "/a/b"))
    assert message.startswith("/a/b: Not a directory. Check the disk")
    assert describe(OSError("of a library")).startswith("of a library. Check")


def test_a_file_url_is_a_path_and_other_roots_are_known_schemes(tmp_path: Path) -> None:
    def root(text: str) -> str:
        return Settings({}, "", {"LAION_ASSETS_ROOT": text}).apply(SAMPLE).root

    assert root(f"file://{tmp_path}/a b#%") == f"{tmp_path}/a b#%"
    assert root("s3://bucket/data") == "s3://bucket/data"
    assert root("memory://data") == "memory://data"
    for wrong, message in (
        ("file://data", "write it as file:///folder"),
        ("s33://x", "did you mean s3"),
        ("dropbox://x", "package that is not installed"),
        ("http://example.org/", "web servers cannot be written to"),
    ):
        with pytest.raises(SettingError, match=message):
            root(wrong)
