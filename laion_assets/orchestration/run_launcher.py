"""Dagster's default run launcher, extended so that run monitoring detects that a run's process is gone.

By default only the code server notices a dead run. Where both were killed (a machine that went down, a container that
was replaced), the run stays "started" and keeps its slot in the pool permanently. Here the daemon asks the code server
of each started run, every `run_monitoring.poll_interval_seconds`, whether it still has that run.
"""

import time

from laion_assets.orchestration.private_dagster import (
    CanCancelExecutionRequest,
    CanCancelExecutionResult,
    CheckRunHealthResult,
    DagsterRun,
    DagsterUserCodeUnreachableError,
    DefaultRunLauncher,
    WorkerStatus,
    deserialize_value,
)

UNREACHABLE_S = 300.0
"""How long a code server may be unreachable before its runs count as dead: it may be busy or restarting."""
ANSWER_TIMEOUT_S = 10


class WatchedRunLauncher(DefaultRunLauncher):
    """Starts runs as processes of their code server; `run_launcher` in `dagster.yaml` names this class."""

    _unreachable_since: dict[str, float] | None = None

    @property
    def supports_check_run_worker_health(self) -> bool:
        """True: this class adds it."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Ask the code server that started the run whether it still has it. Waits UNREACHABLE_S for the server."""
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "the run ended, or no code server has it yet")
        unreachable = self._unreachable_since = self._unreachable_since or {}
        try:
            request = CanCancelExecutionRequest(run_id=run.run_id)
            answer = client.can_cancel_execution(request, timeout=ANSWER_TIMEOUT_S)
        except DagsterUserCodeUnreachableError:
            waited = time.monotonic() - unreachable.setdefault(run.run_id, time.monotonic())
            status = WorkerStatus.RUNNING if waited < UNREACHABLE_S else WorkerStatus.FAILED
            return CheckRunHealthResult(status, f"its code server has been unreachable for {waited:.0f} s")
        unreachable.pop(run.run_id, None)
        if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.FAILED, "its code server has restarted since: the run's process is gone"
        )
