"""Dagster's default run launcher, with which run monitoring also sees that a run's process is gone.

Left alone, a dead run is noticed by its code server and by nobody else: where both were killed (a machine that went
down, a container that was replaced), the run stays "started", and its pool is taken, for ever. Here the daemon asks
the code server of each started run, every `run_monitoring.poll_interval_seconds`, whether it has that run.
"""

import time

from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.storage.dagster_run import DagsterRun
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

UNREACHABLE_S = 300.0
"""How long a code server may be silent until its runs count as dead: busy or restarting is not dead."""
ANSWER_TIMEOUT_S = 10


class WatchedRunLauncher(DefaultRunLauncher):
    """Runs are processes of their code server, as ever; `run_launcher` in `dagster.yaml` names this class."""

    _silent_since: dict[str, float] | None = None

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes: that is what this class adds."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the code server that started the run still has it; a silent server is waited for a while."""
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "the run ended, or was not handed to a code server")
        silent = self._silent_since = self._silent_since or {}
        try:
            asked = CanCancelExecutionRequest(run_id=run.run_id)
            answer = client.can_cancel_execution(asked, timeout=ANSWER_TIMEOUT_S)
        except DagsterUserCodeUnreachableError:
            waited = time.monotonic() - silent.setdefault(run.run_id, time.monotonic())
            if waited < UNREACHABLE_S:
                return CheckRunHealthResult(WorkerStatus.RUNNING, f"its code server is silent for {waited:.0f} s")
            return CheckRunHealthResult(WorkerStatus.FAILED, f"its code server is silent for {waited:.0f} s")
        silent.pop(run.run_id, None)
        if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.FAILED, "its code server has started anew since: the run's process is gone"
        )
