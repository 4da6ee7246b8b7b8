"""Every use of a private Dagster API, with its purpose. Written for the Dagster release in `DAGSTER`.

Nothing else in this package imports `dagster._...`. On an upgrade, read each of these again: a test compares `DAGSTER`
with the installed release.
"""

import contextlib
import functools
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata, generate_event_batch_id
from dagster._core.execution import compute_logs
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

if TYPE_CHECKING:
    from dagster._core.execution.context.system import StepExecutionContext

__all__ = [
    "DAGSTER",
    "DATA_VERSION_TAG",
    "CanCancelExecutionRequest",
    "CanCancelExecutionResult",
    "CheckRunHealthResult",
    "DagsterRun",
    "DagsterUserCodeUnreachableError",
    "DefaultRunLauncher",
    "WorkerStatus",
    "deserialize_value",
    "get_step_context",
    "keep_event_log_open",
    "mark_as_reported",
    "output_mirrors_in_own_groups",
    "report_materializations",
]

DAGSTER = "1.13.27"
"""The release whose private APIs these are."""


def get_step_context(context: dg.AssetExecutionContext) -> "StepExecutionContext":
    """Return the step of an asset's run: what events are reported for."""
    return context.get_step_execution_context()


def report_materializations(step: "StepExecutionContext", events: Sequence[dg.AssetMaterialization]) -> None:
    """Report materializations in one batch: one transaction on PostgreSQL, if DAGSTER_EVENT_BATCH_SIZE is set.

    The public `context.log_event` reports them when the step ends, and not at all when the run is killed.
    """
    batch = generate_event_batch_id()  # type: ignore[no-untyped-call]
    last = len(events) - 1
    for number, event in enumerate(events):
        DagsterEvent.asset_materialization(step, event, DagsterEventBatchMetadata(batch, number == last))


def mark_as_reported(value: Any) -> dg.Output[Any]:
    """Return an output whose partitions were reported already: Dagster does not report them again.

    Dagster leaves out the materializations of an output that carries the metadata of an observed source asset.
    """
    return dg.Output(value, metadata={SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True})


@contextlib.contextmanager
def keep_event_log_open(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Keep SQLite's write-ahead logs of a run's events and of the index open; does nothing for other storages.

    Dagster opens and closes a connection for each event. Closing the last connection copies the log into the database
    and removes it, which waits for the disk longer than the event's own commits. While another connection is open, that
    happens once in a thousand pages. Each connection also has a new SQLAlchemy engine, which compiles every statement
    again; here each database keeps one engine.
    """
    storage = instance.event_log_storage
    with contextlib.ExitStack() as stack:
        if isinstance(storage, SqliteEventLogStorage):
            stack.enter_context(_one_engine_per_database())
            for shard in (run_id, INDEX_SHARD_NAME):
                opened = sqlite3.connect(storage.path_for_shard(shard))
                stack.callback(opened.close)
                opened.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens the log
        yield


@contextlib.contextmanager
def _one_engine_per_database() -> Iterator[None]:
    module: Any = sqlite_event_log
    create = module.create_engine
    engines: dict[str, Any] = {}

    def create_bounded_engine(address: str, **options: Any) -> Any:
        if address not in engines:
            engines[address] = create(address, **options)
        return engines[address]

    module.create_engine = create_bounded_engine
    try:
        yield
    finally:
        module.create_engine = create


@contextlib.contextmanager
def output_mirrors_in_own_groups() -> Iterator[None]:
    """Keep Ctrl-C from the processes that mirror a run's output: start them in process groups of their own.

    Dagster starts a `tail` for each of stdout and stderr, and a Python process that watches it. Ctrl-C reaches the
    whole process group of a terminal, and each watcher that it ends prints a traceback. They end with their run anyway.
    """
    module: Any = compute_logs
    original = module.subprocess
    module.subprocess = SimpleNamespace(Popen=functools.partial(subprocess.Popen, process_group=0))
    try:
        yield
    finally:
        module.subprocess = original
