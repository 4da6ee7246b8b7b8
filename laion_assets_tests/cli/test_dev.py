"""`laion-assets dev` works without a checkout: it creates Dagster's instance and workspace, and starts Dagster."""

import os
import socket
import sys
from pathlib import Path

import pytest
import yaml

from laion_assets.cli import cli
from laion_assets.dataset.built_in import BUILT_IN, SAMPLE
from laion_assets.errors import SettingError
from laion_assets.orchestration.code_locations import location_name
from laion_assets.orchestration.instance import dagster_home
from laion_assets_tests.end_to_end.conftest import TOP, environment

DECLARED = """
[dataset.cats]
source = "csv"
layout = { parquet_files = 1, shards = 2, embedding_files = 1, rows_per_shard = 100 }
"""


class StartedError(Exception):
    """Raised in place of the program that `dev` becomes."""


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """An empty folder, and the commands and environments that `dev` starts there."""
    found: list[tuple[list[str], dict[str, str]]] = []

    def execve(path: str, command: list[str], variables: dict[str, str]) -> None:
        assert path == sys.executable
        found.append((command, variables))
        raise StartedError

    monkeypatch.chdir(tmp_path)
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "execve", execve)
    return found


def run(*arguments: str) -> None:
    with pytest.raises(StartedError):
        cli(["dev", *arguments], standalone_mode=False)


def test_dagster_starts_with_every_known_dataset_and_many_partitions_in_mind(
    started: list[tuple[list[str], dict[str, str]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "laion-assets.toml").write_text(DECLARED)
    run("--host", "::1", "--port", "4000")
    ((command, variables),) = started
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert command[1:4] == ["-m", "dagster", "dev"]
    assert (options["--host"], options["--port"], options["--log-level"]) == ("::1", "4000", "warning")
    workspace = yaml.safe_load(Path(options["--workspace"]).read_text())
    names = [entry["python_module"]["location_name"] for entry in workspace["load_from"]]
    assert names == [*BUILT_IN, "declared"]
    assert variables["DAGSTER_HOME"] == str(tmp_path / "dagster_home")
    assert variables["DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS"] == "true"
    assert "http://[::1]:4000" in capsys.readouterr().out


def test_the_workspace_has_the_locations_of_the_checkout_and_none_without_datasets(
    started: list[tuple[list[str], dict[str, str]]], tmp_path: Path
) -> None:
    run()
    found = yaml.safe_load((tmp_path / "dagster_home" / "laion-assets-workspace.yaml").read_text())["load_from"]
    checkout = yaml.safe_load((TOP / "workspace.yaml").read_text())["load_from"]
    assert found == [entry for entry in checkout if entry["python_module"]["attribute"] != "declared"]


def test_a_port_in_use_is_named_before_anything_starts(
    started: list[tuple[list[str], dict[str, str]]], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingError, match=rf"Cannot listen on 127\.0\.0\.1 port {port}: Address already in use"):
            cli(["dev", "--port", str(port)], standalone_mode=False)
    assert not started
    assert not (tmp_path / "dagster_home").exists()


def test_a_new_instance_has_the_settings_of_production_and_an_own_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    config = dagster_home() / "dagster.yaml"
    assert config.read_text() == (TOP / "dagster_home" / "dagster.yaml").read_text()
    config.write_text("telemetry: {enabled: false}\n")
    assert (dagster_home() / "dagster.yaml").read_text() == "telemetry: {enabled: false}\n"


def test_a_dataset_is_in_the_location_that_loads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "laion-assets.toml").write_text(DECLARED)
    monkeypatch.setenv("LAION_ASSETS_SETTINGS", str(tmp_path / "laion-assets.toml"))
    from laion_assets.dataset.settings.resolution import known_datasets

    assert location_name(SAMPLE) == "sample"
    assert location_name(known_datasets()["cats"]) == "declared"
