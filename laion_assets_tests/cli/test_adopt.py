"""`laion-assets adopt` prints what it adopted or refused, and its exit status says which."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from laion_assets.cli import cli
from laion_assets_tests.stages.adopted_files import ROWS, SHARDS, img2dataset_shards, own_copy


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAION_ASSETS_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster_home"))
    monkeypatch.chdir(tmp_path)
    return own_copy(img2dataset_shards()[0], tmp_path / "theirs")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def test_adopted_shards_appear_in_status(folder: Path) -> None:
    done = run("adopt", "-d", "sample", "image_shards", str(folder))
    assert done.exit_code == 0, done.output
    assert f"image_shards: {SHARDS} partitions (00000 to 00003) adopted ({SHARDS} by hard link)" in done.output
    assert f"rows: {SHARDS * ROWS} in, {SHARDS * ROWS - 4} kept; dropped: 1 undecodable" in done.output
    assert "4/4 shards verified (100 %)" in done.output
    output = run("status", "--dataset", "sample", "--json").output
    found = json.loads(output[output.index("{") :])["image_shards"]
    assert (found["complete"], found["stale"], found["missing"], found["adopted"]) == (SHARDS, 0, 24 - SHARDS, SHARDS)
    assert f"image_shards: {SHARDS} partitions were adopted" in run("status", "--dataset", "sample").output
    again = run("adopt", "-d", "sample", "image_shards", str(folder))
    assert again.exit_code == 0
    assert f"image_shards: {SHARDS} partitions (00000 to 00003) adopted before" in again.output


def test_refused_file_is_named_with_exit_status_1(folder: Path, tmp_path: Path) -> None:
    (folder / "00002.tar").write_bytes(b"")
    (folder / "notes.txt").write_text("mine")
    done = run("adopt", "image_shards", str(folder))
    assert done.exit_code == 1
    assert "refused 00002: its tar is truncated" in done.output
    assert "ignored: notes.txt" in done.output
    assert f"image_shards: {SHARDS - 1} partitions (00000 to 00003) fit" in done.output
    assert "1 refused. Nothing was changed." in done.output
    assert not (tmp_path / "data").exists()


def test_dry_run_changes_nothing(folder: Path, tmp_path: Path) -> None:
    done = run("adopt", "image_shards", str(folder), "--dry-run")
    assert done.exit_code == 0
    assert f"{SHARDS} partitions (00000 to 00003) would be adopted" in done.output
    assert "Dry run: nothing was changed." in done.output
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "dagster_home").exists()


def test_copies_on_request(folder: Path) -> None:
    assert f"({SHARDS} by copy)" in run("adopt", "image_shards", str(folder), "--copy").output


def test_help_and_wrong_usage(folder: Path) -> None:
    shown = run("adopt", "--help").output
    for word in ("--dry-run", "--copy", "img2dataset", "clip-retrieval", "exit status is 1"):
        assert word in " ".join(shown.split())
    assert run("adopt", "dedup_parquet", str(folder)).exit_code == 2
    assert run("adopt", "image_shards", str(folder / "missing")).exit_code == 2
