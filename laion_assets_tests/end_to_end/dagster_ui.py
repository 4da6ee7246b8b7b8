"""Dagster's web server, daemon and code servers as real processes, queried through GraphQL as the UI does it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from laion_assets.dataset.built_in import BUILT_IN
from laion_assets_tests.end_to_end.conftest import BIN, TOP, environment

LAUNCH_BACKFILL = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}"""
LAUNCH_RUN = """
mutation Launch($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}"""
BACKFILL = """query Backfill($id: String!) { partitionBackfillOrError(backfillId: $id) {
  ... on PartitionBackfill { status numPartitions error { message } } } }"""
RUN = "query Run($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries {
  name loadStatus locationOrLoadError { ... on PythonError { message } } } } } }"""
CANCEL_BACKFILL = "mutation Cancel($id: String!) { cancelPartitionBackfill(backfillId: $id) { __typename } }"
TERMINATE = "mutation Stop($id: String!) { terminateRun(runId: $id) { __typename ... on PythonError { message } } }"


@dataclass(frozen=True)
class DagsterPage:
    """A running page at `url`; `processes` are the roots of its process trees."""

    url: str
    processes: tuple[subprocess.Popen[bytes], ...]

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of an answer; fails on errors."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def backfill(self, dataset: str, assets: list[str], partitions: list[str] | None = None) -> str:
        """Launch a backfill as the UI's button does, of all partitions if none are named. Returns its id."""
        params: dict[str, Any] = {"assetSelection": [{"path": [dataset, asset]} for asset in assets]}
        params |= {"allPartitions": True} if partitions is None else {"partitionNames": partitions}
        answer = self.graphql(LAUNCH_BACKFILL, params=params)["launchPartitionBackfill"]
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return answer["backfillId"]

    def run(self, dataset: str, asset: str, first: str = "", last: str = "", key: str = "", location: str = "") -> str:
        """Launch one run of an asset, over a partition range or one partition if they are given. Returns its id."""
        tags = {}
        if first:
            tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        elif key:
            tags = {"dagster/partition": key}
        params = {
            "selector": {
                "repositoryLocationName": location or dataset,
                "repositoryName": "__repository__",
                "pipelineName": "__ASSET_JOB",
                "assetSelection": [{"path": [dataset, asset]}],
            },
            "runConfigData": {},
            "mode": "default",
            "executionMetadata": {"tags": [{"key": name, "value": value} for name, value in tags.items()]},
        }
        answer = self.graphql(LAUNCH_RUN, params=params)["launchPipelineExecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return answer["run"]["runId"]

    def run_status(self, run_id: str) -> str:
        """A run's status."""
        return self.graphql(RUN, id=run_id)["runOrError"]["status"]

    def wait_for_backfill(self, backfill_id: str, timeout_s: float) -> str:
        """A backfill's final status."""

        def ended() -> str | None:
            status = self.graphql(BACKFILL, id=backfill_id)["partitionBackfillOrError"]["status"]
            return None if status in ("REQUESTED", "CANCELING", "FAILING") else status

        return wait_until(ended, timeout_s)

    def wait_for_run(self, run_id: str, timeout_s: float) -> str:
        """A run's final status."""
        final = ("SUCCESS", "FAILURE", "CANCELED")
        return wait_until(lambda: status if (status := self.run_status(run_id)) in final else None, timeout_s)

    def descendants(self, wanted: Callable[[list[str]], bool]) -> list[psutil.Process]:
        """Return the child processes of the web server with a matching command line."""
        found = []
        for root in self.processes:
            for process in psutil.Process(root.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    if wanted(process.cmdline()):
                        found.append(process)
        return found

    def loaded(self) -> tuple[set[str], dict[str, str]]:
        """Return the loaded code locations, and the errors of the others. Empty while the server does not respond."""
        with contextlib.suppress(OSError):
            entries = self.graphql(LOCATIONS)["workspaceOrError"]["locationEntries"]
            ended = [entry for entry in entries if entry["loadStatus"] == "LOADED"]
            wrong = {
                entry["name"]: entry["locationOrLoadError"]["message"]
                for entry in ended
                if "message" in (entry["locationOrLoadError"] or {})
            }
            return {entry["name"] for entry in ended} - set(wrong), wrong
        return set(), {}


def wait_until(condition: Callable[[], Any], timeout_s: float, pause_s: float = 0.5) -> Any:
    """The first true value of a condition. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(pause_s)
    raise TimeoutError(f"nothing after {timeout_s} s")


@contextlib.contextmanager
def dagster_page(home: Path, project: Path | None = None, **variables: str) -> Iterator[DagsterPage]:
    """`laion-assets dev`, with files, settings and the Dagster instance below `home`.

    With `project`, `dagster dev` over that Python file of definitions. `variables` are added to its environment.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    locations, program = set(BUILT_IN), [BIN / "laion-assets", "dev"]
    if project is not None:
        locations, program = {project.name}, [BIN / "dagster", "dev", "-f", project]
    settings = home / "laion-assets.toml"
    settings.touch()
    log = (home / "dagster-dev.log").open("wb")
    process = subprocess.Popen(
        [*program, "--host", "127.0.0.1", "--port", str(port)],
        cwd=TOP,
        env=environment(home) | {"LAION_ASSETS_SETTINGS": str(settings)} | variables,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    page = DagsterPage(f"http://127.0.0.1:{port}", (process,))
    try:

        def ready() -> bool:
            assert process.poll() is None, (home / "dagster-dev.log").read_text()
            found, wrong = page.loaded()
            assert not wrong, wrong
            return found == locations

        wait_until(ready, 90)
        yield page
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()
