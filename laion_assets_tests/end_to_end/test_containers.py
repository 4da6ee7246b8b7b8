"""`deploy/` started as documented: the image is built, containers are healthy and confined, one is replaced."""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.registry import pipeline_names
from laion_assets_tests.end_to_end.dagster_ui import DagsterPage, wait_until
from laion_assets_tests.end_to_end.deployment import DEPLOY

PIPELINE = pipeline_names(SAMPLE)

pytestmark = [pytest.mark.containers, pytest.mark.timeout(3_600)]
MANIFESTS = f"/data/sample/manifests/{IMAGE_SHARDS}"
RUNS = "{ runsOrError { ... on Runs { results { status assetSelection { path } } } } }"


@dataclass(frozen=True)
class Containers:
    """The running project of `docker compose`, separate from other projects of this machine."""

    environment: dict[str, str]
    page: DagsterPage

    def compose(self, *arguments: str) -> str:
        """What `docker compose` printed; fails with its words."""
        command = ["docker", "compose", "--project-name", "laion-assets-test", *arguments]
        done = subprocess.run(command, cwd=DEPLOY, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def sample(self, *command: str) -> str:
        """What a command printed in the sample's container."""
        return self.compose("exec", "-T", "code_sample", *command)

    def services(self) -> set[str]:
        return set(self.compose("config", "--services").split())

    def addresses(self, service: str) -> list[str]:
        """Its address in each of its networks."""
        return self.compose("exec", "-T", service, "hostname", "-I").split()

    def connects(self, service: str, address: str, port: int) -> bool:
        """Whether a process in the service's container can open a TCP connection."""
        attempt = f"timeout 5 bash -c ': < /dev/tcp/{address}/{port}' 2> /dev/null && echo yes || echo no"
        return self.compose("exec", "-T", service, "bash", "-c", attempt).strip() == "yes"

    def manifests(self) -> set[str]:
        """Name, number and time of the committed shards' manifests."""
        listing = f"stat -c '%n %i %Y' {MANIFESTS}/*.json 2>/dev/null || true"
        return set(self.sample("sh", "-c", listing).splitlines())


@pytest.fixture(scope="module")
def containers() -> Iterator[Containers]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    ours = {"POSTGRES_PASSWORD": secrets.token_hex(8), "PORT": port, "LAION_DATA": "data", "LAION_ASSETS_TAG": "test"}
    running = Containers(os.environ | ours, DagsterPage(f"http://127.0.0.1:{port}", ()))
    with contextlib.suppress(AssertionError):
        running.compose("down", "--volumes")  # of a test that was killed
    try:
        running.compose("up", "--detach", "--build", "--wait", "--wait-timeout", "1200")
        yield running
    finally:
        running.compose("down", "--volumes")


def test_all_services_are_healthy_and_the_page_has_all_datasets(containers: Containers) -> None:
    states = [json.loads(line) for line in containers.compose("ps", "--format", "json").splitlines()]
    assert {state["Service"] for state in states} == containers.services()
    assert {state["Health"] for state in states} == {"healthy"}
    containers.compose("--file", "compose.yaml", "--file", "compose.gpu.yaml", "config", "--quiet")
    locations, wrong = containers.page.loaded()
    assert not wrong
    assert locations == {"laion400m", "sample", "rehearsal"}


def test_no_process_has_capabilities_or_can_gain_privileges(containers: Containers) -> None:
    for service in containers.services():
        status, mounts = (
            containers.compose("exec", "-T", service, "cat", f"/proc/1/{file}").splitlines()
            for file in ("status", "mounts")
        )
        found = dict(line.split(":", 1) for line in status)
        assert all(int(found[name], 16) == 0 for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")), service
        assert found["NoNewPrivs"].strip() == "1", service
        assert "0" not in found["Uid"].split(), service
        (options,) = {mount[3] for mount in map(str.split, mounts) if mount[1] == "/"}
        assert ("ro" in options.split(",")) != service.startswith("code_"), service


def test_the_ui_is_reached_through_the_proxy_alone(containers: Containers) -> None:
    ui = [address for address in containers.addresses("webserver") if containers.connects("proxy", address, 3000)]
    assert len(ui) == 1, "it listens in one network"
    for address in containers.addresses("webserver"):
        assert not containers.connects("code_sample", address, 3000)
    for address in containers.addresses("proxy"):
        assert not containers.connects("code_sample", address, 8080)
    # The web server itself answers such a query.
    with pytest.raises(urllib.error.HTTPError, match="405"):
        urllib.request.urlopen(f"{containers.page.url}/graphql?query=%7B__typename%7D", timeout=30)


def test_only_code_servers_reach_the_internet(containers: Containers) -> None:
    # The host that the build of the image needs, too.
    address = containers.sample("python", "-c", "import socket; print(socket.gethostbyname('deb.debian.org'))").strip()
    reach = {service for service in containers.services() if containers.connects(service, address, 80)}
    assert reach == {service for service in containers.services() if service.startswith("code_")}


def test_the_graph_completes_although_its_container_is_replaced(containers: Containers) -> None:
    backfill = containers.page.backfill("sample", list(PIPELINE))
    wait_until(lambda: len(containers.manifests()) >= 3, 600)
    containers.compose("kill", "code_sample")
    containers.compose("rm", "--force", "code_sample")
    containers.compose("up", "--detach", "--wait", "code_sample")
    kept = containers.manifests()
    assert 3 <= len(kept) < SAMPLE.layout.shards
    assert containers.page.wait_for_backfill(backfill, 900) == "COMPLETED_SUCCESS"
    assert kept <= containers.manifests(), "a complete shard was built twice"
    left = containers.sample("sh", "-c", "find /data/sample/staging -type f")
    assert not left, f"left in staging: {left}"
    states = json.loads(containers.sample("laion-assets", "status", "--dataset", "sample", "--json"))
    assert {asset: states[asset]["complete"] for asset in PIPELINE} == {
        asset: states[asset]["total"] for asset in PIPELINE
    }
    runs = containers.page.graphql(RUNS)["runsOrError"]["results"]
    of_shards = {run["status"] for run in runs if {"path": ["sample", IMAGE_SHARDS]} in run["assetSelection"]}
    assert of_shards == {"FAILURE", "SUCCESS"}, "the run that was killed, and the one that went on"
