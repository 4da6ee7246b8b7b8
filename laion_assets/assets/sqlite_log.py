"""SQLite's write-ahead logs of a run's events, kept open while the run reports.

Dagster opens and closes a connection for each event, and whoever closes a database's last connection copies its log
into the database and removes it: more waiting for the disk than the event's own commits. While another connection is
open, that happens once in a thousand pages.
"""

import contextlib
import sqlite3
from collections.abc import Iterator

import dagster as dg
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage


@contextlib.contextmanager
def kept_open(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Keep the logs of the run's database and of the index open; nothing where events are stored elsewhere."""
    storage = instance.event_log_storage
    with contextlib.ExitStack() as stack:
        if isinstance(storage, SqliteEventLogStorage):
            for shard in (run_id, INDEX_SHARD_NAME):
                opened = sqlite3.connect(storage.path_for_shard(shard))
                stack.callback(opened.close)
                opened.execute("SELECT count(*) FROM sqlite_master").fetchone()  # only now is the log open
        yield
