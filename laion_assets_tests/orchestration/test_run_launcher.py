"""Run monitoring asks the code server of a run, and waits if it does not respond. A dead one: test_deploy."""

import json
import socket

import dagster as dg
import pytest
from dagster._core.launcher.base import WorkerStatus
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.tags import GRPC_INFO_TAG

from laion_assets.orchestration import run_launcher
from laion_assets.orchestration.run_launcher import WatchedRunLauncher


@pytest.fixture
def launcher(instance: dg.DagsterInstance) -> WatchedRunLauncher:
    """The launcher that the project's `dagster.yaml` names."""
    found = instance.run_launcher
    assert isinstance(found, WatchedRunLauncher)
    assert found.supports_check_run_worker_health
    return found


def started(instance: dg.DagsterInstance, **tags: str) -> DagsterRun:
    return instance.add_run(DagsterRun("job", status=dg.DagsterRunStatus.STARTED, tags=tags))


def test_a_run_fails_once_its_code_server_is_unreachable_for_too_long(
    instance: dg.DagsterInstance, launcher: WatchedRunLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = json.dumps({"host": "127.0.0.1", "port": probe.getsockname()[1]})  # bound, and nobody listens
        run = started(instance, **{GRPC_INFO_TAG: server})
        monkeypatch.setattr(run_launcher, "ANSWER_TIMEOUT_S", 1)
        assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
        monkeypatch.setattr(run_launcher, "UNREACHABLE_S", 0.0)
        found = launcher.check_run_worker_health(run)
    assert found.status == WorkerStatus.FAILED
    assert "unreachable" in str(found.msg)


def test_a_run_that_was_not_handed_to_a_code_server_is_left_alone(
    instance: dg.DagsterInstance, launcher: WatchedRunLauncher
) -> None:
    assert launcher.check_run_worker_health(started(instance)).status == WorkerStatus.RUNNING
