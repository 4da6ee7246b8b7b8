"""Every use of a private Dagster API, with its purpose. Written for the Dagster release in `DAGSTER`.

Nothing else in this package imports `dagster._...`. On an upgrade, read each of these again: a test compares `DAGSTER`
with the installed release.
"""

import contextlib
import functools
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata, generate_event_batch_id
from dagster._core.execution import compute_logs
from dagster._core.execution.backfill import (
    BULK_ACTION_TERMINAL_STATUSES,
    BulkActionsFilter,
    BulkActionStatus,
    PartitionBackfill,
)
from dagster._core.instance.utils import RUNLESS_RUN_ID
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.tags import MAX_RETRIES_TAG
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.utils import make_new_backfill_id
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

if TYPE_CHECKING:
    from dagster._core.definitions.partitions.subset import PartitionsSubset
    from dagster._core.execution.context.system import StepExecutionContext

__all__ = [
    "DAGSTER",
    "DATA_VERSION_TAG",
    "RUNLESS_RUN_ID",
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
    "running_backfills",
    "runs_in_code_location",
    "skip_older_run_events",
    "start_backfill",
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


@contextlib.contextmanager
def runs_in_code_location(instance: dg.DagsterInstance, module: str, location: str) -> Iterator[None]:
    """Record runs in this process as runs of a code location.

    The landing page of the Dagster UI leaves out runs without a code location. The UI can execute such a run again. The
    daemon does not: its retries are off for these runs.
    """
    target = LoadableTargetOrigin(
        executable_path=sys.executable, module_name=module, working_directory=os.getcwd(), attribute=location
    )
    place = ManagedGrpcPythonEnvCodeLocationOrigin(target, location)
    repository = RemoteRepositoryOrigin(place, SINGLETON_REPOSITORY_NAME)
    create = instance.create_run_for_job

    def create_run_for_job(job_def: Any, **options: Any) -> DagsterRun:
        tags = {**(options.pop("tags", None) or {}), MAX_RETRIES_TAG: "0"}
        return create(job_def, **options, tags=tags, remote_job_origin=RemoteJobOrigin(repository, job_def.name))

    vars(instance)["create_run_for_job"] = create_run_for_job
    try:
        yield
    finally:
        del vars(instance)["create_run_for_job"]


def start_backfill(
    instance: dg.DagsterInstance,
    partitions: "Mapping[dg.AssetKey, PartitionsSubset | None]",
    *,
    title: str,
    tags: Mapping[str, str],
    run_config: Mapping[str, Any] | None = None,
) -> str:
    """Request a backfill of partitions of several assets, None for an asset without partitions. Returns its id.

    The daemon starts its runs. The public API requests a backfill only through a web server.
    """
    graph_subset: Any = AssetGraphSubset
    subset = graph_subset(
        partitions_subsets_by_asset_key={key: keys for key, keys in partitions.items() if keys is not None},
        non_partitioned_asset_keys={key for key, keys in partitions.items() if keys is None},
    )
    backfill_id = make_new_backfill_id()
    backfill = PartitionBackfill.from_asset_graph_subset(
        backfill_id=backfill_id,
        backfill_timestamp=time.time(),
        tags=tags,
        dynamic_partitions_store=instance,
        asset_graph_subset=subset,
        title=title,
        description=None,
        run_config=run_config,
    )
    instance.add_backfill(backfill)
    return backfill_id


def running_backfills(instance: dg.DagsterInstance, tags: Mapping[str, str]) -> list[str]:
    """Return the ids of backfills with these tags that have not ended."""
    ended = set(BULK_ACTION_TERMINAL_STATUSES)
    filters = BulkActionsFilter(
        statuses=[status for status in BulkActionStatus if status not in ended], tags=dict(tags)
    )
    return [backfill.backfill_id for backfill in instance.get_backfills(filters)]


def skip_older_run_events(instance: dg.DagsterInstance) -> None:
    """Start the daemon's retries of an instance at its newest event, as the daemon itself does with two warnings."""
    # Imported here: it takes a tenth of a second, and code locations never need it.
    from dagster._daemon.auto_run_reexecution.event_log_consumer import DAGSTER_EVENT_TYPES, _create_cursor_key

    storage = instance.daemon_cursor_storage
    keys = {_create_cursor_key(kind) for kind in DAGSTER_EVENT_TYPES}
    missing = keys - storage.get_cursor_values(keys).keys()
    if missing:
        newest = instance.event_log_storage.get_maximum_record_id() or 0
        storage.set_cursor_values(dict.fromkeys(missing, str(newest)))
