"""SQLite's write-ahead logs of a run's events, kept open while the run reports, and one engine for each database.

Dagster opens and closes a connection for each event, and whoever closes a database's last connection copies its log
into the database and removes it: more waiting for the disk than the event's own commits. While another connection is
open, that happens once in a thousand pages. And each connection is of a new SQLAlchemy engine, which compiles every
statement anew: more computing than all else that an event costs. Engines that stay keep what they compiled.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage


@contextlib.contextmanager
def kept_open(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Keep the logs of the run's database and of the index open; nothing where events are stored elsewhere."""
    storage = instance.event_log_storage
    with contextlib.ExitStack() as stack:
        if isinstance(storage, SqliteEventLogStorage):
            stack.enter_context(_engines_that_stay())
            for shard in (run_id, INDEX_SHARD_NAME):
                opened = sqlite3.connect(storage.path_for_shard(shard))
                stack.callback(opened.close)
                opened.execute("SELECT count(*) FROM sqlite_master").fetchone()  # only now is the log open
        yield


@contextlib.contextmanager
def _engines_that_stay() -> Iterator[None]:
    """Dagster's event log gets the same engine for the same database; engines have no connections of their own."""
    module: Any = sqlite_event_log
    create = module.create_engine
    engines: dict[str, Any] = {}

    def engine_of(address: str, **options: Any) -> Any:
        if address not in engines:
            engines[address] = create(address, **options)
        return engines[address]

    module.create_engine = engine_of
    try:
        yield
    finally:
        module.create_engine = create
