"""The services of `deploy/compose.yaml` as processes on loopback: their own commands, files and environment.

Only addresses, ports and folders differ from what the containers have.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from laion_assets_tests.end_to_end.conftest import BIN, TOP, environment
from laion_assets_tests.end_to_end.dagster_ui import DagsterPage, wait_until
from laion_assets_tests.postgres import Database

DEPLOY = TOP / "deploy"
CODE_PORT, PAGE_PORT = "4000", "3000"
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")


def compose(variables: dict[str, str]) -> dict[str, Any]:
    """`compose.yaml` with its variables put in, as Docker does. Raises KeyError with the file's own words."""

    def value(found: re.Match[str]) -> str:
        if given := variables.get(found["name"]):
            return given
        if found["kind"] != "-":
            raise KeyError(found["rest"] or found["name"])
        return found["rest"]

    return yaml.safe_load(_VARIABLE.sub(value, (DEPLOY / "compose.yaml").read_text()))


@dataclass
class Deployment:
    """The running services by name; `page` is the web server."""

    home: Path
    services: dict[str, Any]
    environment: dict[str, str]
    ports: dict[str, int]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def page(self) -> DagsterPage:
        return DagsterPage(f"http://127.0.0.1:{self.ports['webserver']}", tuple(self.processes.values()))

    def start(self, name: str) -> None:
        """Start a service, or start it again on the port that it had."""
        command = [str(word) for word in self.services[name]["command"]]
        replaced = dict.fromkeys(("0.0.0.0", "ui"), "127.0.0.1")
        replaced["/opt/dagster/workspace.yaml"] = str(self.home / "workspace.yaml")
        if name in self.ports:
            replaced |= {port: str(self.ports[name]) for port in (CODE_PORT, PAGE_PORT)}
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [BIN / command[0], *(replaced.get(word, word) for word in command[1:])],
                cwd=self.home,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def restart_ended(self) -> None:
        """Start services that ended, as their restart policy says.

        Services that start at once on an empty database create its tables at the same time, and all but one may fail.
        """
        for name, process in self.processes.items():
            if process.poll() is not None and self.services[name]["restart"] == "unless-stopped":
                self.start(name)

    def kill(self, name: str) -> None:
        """`kill -9` of all processes of a service, its runs included, as if its container was removed."""
        os.killpg(self.processes[name].pid, signal.SIGKILL)
        self.processes[name].wait()

    def stop(self) -> None:
        """End all services."""
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextlib.contextmanager
def deployment(home: Path, database: Database, **instance: Any) -> Iterator[Deployment]:
    """All services but the proxy, and PostgreSQL, which is `database`; files and the Dagster instance lie below `home`.

    `instance` replaces entries of `dagster.yaml`.
    """
    services = compose({"POSTGRES_PASSWORD": database.password})["services"]
    services = {name: service for name, service in services.items() if "profiles" not in service}
    own = {name: service for name, service in services.items() if name not in ("postgres", "proxy")}
    workspace = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())
    ports = {name: _free_port() for name in own if name != "daemon"}
    for entry in workspace["load_from"]:
        server = entry["grpc_server"]
        server |= {"host": "127.0.0.1", "port": ports[server["host"]]}
    (home / "workspace.yaml").write_text(yaml.safe_dump(workspace))
    (home / "dagster.yaml").write_text(yaml.safe_dump(yaml.safe_load((DEPLOY / "dagster.yaml").read_text()) | instance))
    given = {name: str(value) for name, value in own["webserver"]["environment"].items()}
    ours = {
        "DAGSTER_HOME": str(home),
        "LAION_ASSETS_ROOT": str(home / "data"),
        "LAION_ASSETS_SETTINGS": str(DEPLOY / "laion-assets.toml"),
    }
    running = Deployment(home, own, environment(home) | given | database.environment | ours, ports)
    try:
        for name in own:
            running.start(name)
        locations = {entry["grpc_server"]["location_name"] for entry in workspace["load_from"]}

        def all_loaded() -> bool:
            running.restart_ended()
            return running.page.loaded()[0] == locations

        # The web server starts together with the code servers and connects when they are ready, as in containers.
        wait_until(all_loaded, 240)
        yield running
    finally:
        running.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
