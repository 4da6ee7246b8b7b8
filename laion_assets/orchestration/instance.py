"""The Dagster instance: the folder that the page, the daemon and runs from a shell share."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from laion_assets.errors import LaionAssetsError, SettingError
from laion_assets.orchestration.writable_folders import require_writable

if TYPE_CHECKING:
    import dagster as dg

HOME_VARIABLE = "DAGSTER_HOME"
DEFAULT_HOME = "dagster_home"
MANY_PARTITIONS = {
    "DAGSTER_EVENT_BATCH_SIZE": "1000",
    "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "true",
}
"""What keeps Dagster quick at 41,455 partitions: batches of events, and one planned event a run."""
_MINIMAL_INSTANCE = "telemetry:\n  enabled: false\nnux:\n  enabled: false\n"


def dagster_home() -> Path:
    """The instance's folder: DAGSTER_HOME, or `dagster_home` here; made, with telemetry off, if it is not there.

    Raises SettingError for a folder that cannot be written.
    """
    home = Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).absolute()
    if set(str(home)) & set("%?"):
        raise SettingError(
            f"Dagster's folder: {home} has a % or ? in its path, which Dagster's database addresses cannot hold. "
            f"Set {HOME_VARIABLE} to another folder."
        )
    if not (home / "dagster.yaml").exists():  # one that is there may keep everything in a database
        require_writable(home, "Dagster's folder", f"Set {HOME_VARIABLE} to a folder that can be written.")
        (home / "dagster.yaml").write_text(_MINIMAL_INSTANCE, encoding="utf-8")
    os.environ[HOME_VARIABLE] = str(home)
    for name, value in MANY_PARTITIONS.items():
        os.environ.setdefault(name, value)
    return home


@contextmanager
def instance() -> Iterator["dg.DagsterInstance"]:
    """The Dagster instance of `dagster_home()`.

    Raises SettingError where it cannot be opened, LaionAssetsError where its database fails later (a full disk).
    """
    import dagster as dg
    from sqlalchemy.exc import OperationalError

    home = dagster_home()
    try:
        opened = dg.DagsterInstance.get()
    except Exception as error:  # of Dagster, YAML, SQLAlchemy or a database's driver
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise SettingError(
            f"The Dagster instance in {home} cannot be opened: {type(error).__name__}: {reason}. "
            f"Correct {home / 'dagster.yaml'} or the folder's permissions, or set {HOME_VARIABLE} to another folder."
        ) from error
    with opened:
        try:
            yield opened
        except OperationalError as error:
            raise LaionAssetsError(
                f"Dagster's database (instance {home}) failed: {error.orig}. Correct that (free disk space, or start "
                "the database) and run the command again; committed partitions are kept."
            ) from error
