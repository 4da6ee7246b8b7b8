"""`deploy/`: its files refer only to what exists, and its services recover from kills."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config

from laion_assets import definitions
from laion_assets.dataset.built_in import BUILT_IN, SAMPLE
from laion_assets.dataset.settings.resolution import resolve_settings
from laion_assets.orchestration.instance import MANY_PARTITIONS
from laion_assets.stages.status import DatasetStatus
from laion_assets_tests.end_to_end.conftest import BIN, TOP, Demo
from laion_assets_tests.end_to_end.dagster_ui import wait_until
from laion_assets_tests.end_to_end.deployment import DEPLOY, Deployment, compose, deployment
from laion_assets_tests.postgres import Database

RUNS = "{ runsOrError { ... on Runs { results { runId status parentRunId } } } }"


@pytest.fixture
def services() -> dict[str, Any]:
    return compose({"POSTGRES_PASSWORD": "secret"})["services"]


def test_a_password_has_to_be_set() -> None:
    with pytest.raises(KeyError, match=r"POSTGRES_PASSWORD in deploy/\.env"):
        compose({})


def test_each_location_of_the_workspace_is_a_service_that_serves_that_dataset(services: dict[str, Any]) -> None:
    found = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"]
    served = {}
    for entry in found:
        server = entry["grpc_server"]
        command = services[server["host"]]["command"]
        assert command[command.index("-p") + 1] == str(server["port"])
        assert command[command.index("-m") + 1] == definitions.__name__
        served[server["location_name"]] = command[command.index("-a") + 1]
    assert served == {name: name for name in BUILT_IN}
    assert all(hasattr(definitions, name) for name in served)
    code_servers = {name: service for name, service in services.items() if name.startswith("code_")}
    assert {f"code_{name}" for name in served} == set(code_servers)
    # The host name alone shows that the holder of a lease in a replaced container is dead.
    assert {name: service.get("hostname") for name, service in code_servers.items()} == {x: x for x in code_servers}


def test_every_file_that_is_named_is_there(services: dict[str, Any]) -> None:
    declared = set(compose({"POSTGRES_PASSWORD": "secret"})["volumes"])
    for service in services.values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in declared or (DEPLOY / source).is_file(), volume
    (built,) = [service["build"] for service in services.values() if "build" in service]
    assert (DEPLOY / built["context"]).resolve() == TOP
    assert (TOP / built["dockerfile"]).is_file()
    copied = [
        name
        for line in (DEPLOY / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ")
        for name in line.split()[1:-1]
    ]
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    for name in copied:
        assert (TOP / name).exists(), name
        assert f"!{name}" in kept, name


def test_no_service_has_more_rights_than_it_needs(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges=true"], name
        assert bool(service.get("read_only")) != name.startswith("code_"), name
        assert not {"privileged", "cap_add", "network_mode", "pid", "devices"} & set(service), name
    users = {name: service["user"] for name, service in services.items() if "user" in service}
    assert users == {"postgres": "postgres", "proxy": "nginx"}
    assert "\nUSER laion\n" in (DEPLOY / "Dockerfile").read_text()


def test_the_health_of_every_service_is_known(services: dict[str, Any]) -> None:
    assert all(service["healthcheck"]["test"][0] == "CMD" for service in services.values())
    # `docker compose up --wait` ends when the UI answers through the proxy, at the port that nginx listens on.
    asked = services["proxy"]["healthcheck"]["test"][-1]
    (port,) = services["proxy"]["ports"]
    assert asked == f"http://127.0.0.1:{port.split(':')[-1]}/server_info"
    assert f"listen {port.split(':')[-1]};" in (DEPLOY / "nginx.conf").read_text()


def test_the_ui_is_reached_through_the_proxy_alone(services: dict[str, Any]) -> None:
    networks = compose({"POSTGRES_PASSWORD": "secret"})["networks"]
    members = {network: {name for name, one in services.items() if network in one["networks"]} for network in networks}
    code = {name for name in services if name.startswith("code_")}
    assert members == {
        "outside": code,
        "outside_ui": {"proxy"},
        "ui": {"proxy", "webserver"},
        "code": {"webserver", "daemon", *code},
        "database": {"postgres", "webserver", "daemon", *code},
        "outside_search": {"search"},
    }
    assert {name for name, network in networks.items() if not (network or {}).get("internal")} == {
        "outside",
        "outside_ui",
        "outside_search",
    }
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"proxy": ["127.0.0.1:3000:8080"], "search": ["127.0.0.1:8000:8000"]}
    translated = "com.docker.network.bridge.enable_ip_masquerade"
    for network in ("outside_ui", "outside_search"):
        assert networks[network]["driver_opts"] == {translated: "false"}, "the internet is not reached"
    command = services["webserver"]["command"]
    assert command[command.index("-h") + 1] == "ui", "it listens in that network alone"
    assert services["webserver"]["networks"]["ui"]["aliases"] == ["ui"]


def test_search_reads_the_data_only_and_is_limited(services: dict[str, Any]) -> None:
    service = services["search"]
    assert service["profiles"] == ["search"], "it needs a committed index, so it is not started with the others"
    data = next(volume for volume in service["volumes"] if ":/data" in volume)
    assert data.endswith(":ro")
    writable = [volume for volume in service["volumes"] if not volume.endswith(":ro")]
    assert writable == ["reports:/reports"]
    assert service["environment"]["LAION_ASSETS_SEARCH_REPORT_FILE"].startswith("/reports/")
    assert " /reports\n" in (DEPLOY / "Dockerfile").read_text(), "the volume takes the owner of this folder"
    assert {"mem_limit", "pids_limit"} <= service.keys()
    command = service["command"]
    assert command[:2] == ["laion-assets", "serve"]
    assert command[command.index("--host") + 1] in service["networks"]["outside_search"]["aliases"]
    assert "/readyz" in service["healthcheck"]["test"][-1]


def test_every_variable_is_documented_and_read_by_someone(services: dict[str, Any]) -> None:
    environment = services["daemon"]["environment"]
    instance = (DEPLOY / "dagster.yaml").read_text()
    for name in environment:
        if name.startswith("DAGSTER_POSTGRES_"):
            assert f"env: {name} }}" in instance, name
    assert MANY_PARTITIONS.items() <= environment.items()
    asked = (DEPLOY / "compose.yaml").read_text()
    for line in (DEPLOY / "env.example").read_text().splitlines():
        if line and not line.startswith("#"):
            assert f"${{{line.split('=')[0]}" in asked, line


def test_the_instances_are_valid_and_differ_in_their_storage_alone(tmp_path: Path) -> None:
    found = {}
    for folder in ("dagster_home", "deploy"):
        (tmp_path / folder).mkdir()
        shutil.copy(TOP / folder / "dagster.yaml", tmp_path / folder)
        found[folder] = dict(dagster_instance_config(str(tmp_path / folder))[0])
    for name in ("run_launcher", "concurrency", "run_monitoring", "run_retries", "telemetry", "nux"):
        assert found["dagster_home"][name] == found["deploy"][name], name


def test_the_settings_file_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAION_ASSETS_SETTINGS", str(DEPLOY / "laion-assets.toml"))
    for dataset in BUILT_IN.values():
        assert resolve_settings(dataset).name == dataset.name


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, demo: Demo, postgres_server: Database) -> Iterator[Deployment]:
    """The services over a copy of the demo's CSVs and parquet files; monitoring looks every second."""
    home = tmp_path_factory.mktemp("deploy")
    for name in ("raw_csv", "dedup_parquet", "dedup_rejects", "manifests/raw_csv", "manifests/dedup_parquet"):
        shutil.copytree(demo.root / "sample" / name, home / "data" / "sample" / name)
    monitoring = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())["run_monitoring"]
    monitoring["poll_interval_seconds"] = 1
    with deployment(home, postgres_server.another(), run_monitoring=monitoring) as running:
        yield running


@pytest.mark.postgres
def test_the_health_checks_pass_and_fail_for_a_code_server_that_is_gone(served: Deployment) -> None:
    for name, service in served.services.items():
        test = service["healthcheck"]["test"][1:]
        port = str(served.ports.get(name, ""))
        command = [word.replace("4000", port).replace("ui:3000", f"127.0.0.1:{port}") for word in test]
        wait_until(lambda command=command: _succeeds(command, served.environment), 120, 2)
    served.kill("code_rehearsal")
    asked = ["dagster", "api", "grpc-health-check", "-p", str(served.ports["code_rehearsal"])]
    assert not _succeeds(asked, served.environment)
    served.start("code_rehearsal")
    wait_until(lambda: _succeeds(asked, served.environment), 60)


@pytest.mark.postgres
def test_a_run_whose_code_server_was_killed_restarts_and_builds_only_what_is_missing(
    served: Deployment,
) -> None:
    dataset = replace(SAMPLE, root=str(served.home / "data"))
    shards = range(8)

    def complete() -> dict[str, str]:
        states = DatasetStatus(dataset).states("image_shards")
        return {state.key: state.manifest.committed_at for state in states if state.manifest is not None}

    backfill = served.page.backfill("sample", ["image_shards"], [f"{shard:05d}" for shard in shards])
    wait_until(complete, 180, 0.1)
    served.kill("code_sample")
    kept = complete()
    assert 0 < len(kept) < len(shards)
    served.start("code_sample")
    assert served.page.wait_for_backfill(backfill, 300) == "COMPLETED_SUCCESS"
    runs = served.page.graphql(RUNS)["runsOrError"]["results"]
    assert sorted(run["status"] for run in runs) == ["FAILURE", "SUCCESS"]
    (again,) = [run for run in runs if run["status"] == "SUCCESS"]
    assert again["parentRunId"] in {run["runId"] for run in runs}
    end = complete()
    assert len(end) == len(shards)
    assert kept.items() <= end.items(), "a complete shard was built twice"


def _succeeds(command: list[str], environment: dict[str, str]) -> bool:
    done = subprocess.run([BIN / command[0], *command[1:]], env=environment, capture_output=True)
    return done.returncode == 0
