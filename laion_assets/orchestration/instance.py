"""The Dagster instance: the folder that the Dagster UI, the daemon and runs from a shell share."""

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
"""Environment for 41,455 partitions: events in batches, and one planned event a run."""
_CONFIG = Path(__file__).parent / "dagster.yaml"
"""The configuration of a new instance. In a checkout, `dagster_home/dagster.yaml` is a link to it."""


def dagster_home() -> Path:
    """Return the folder of the instance: DAGSTER_HOME, or `dagster_home` in the current directory.

    Creates it with this project's `dagster.yaml` if it has none. Raises SettingError for a folder that cannot be
    written.
    """
    home = Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).absolute()
    if set(str(home)) & set("%?"):
        raise SettingError(
            f"The Dagster home {home} has a % or ? in its path, which Dagster's database URLs cannot contain. "
            f"Set {HOME_VARIABLE} to another folder."
        )
    if not (home / "dagster.yaml").exists():  # an existing one may store everything in a database
        require_writable(home, HOME_VARIABLE, f"Set {HOME_VARIABLE} to a writable folder.")
        (home / "dagster.yaml").write_bytes(_CONFIG.read_bytes())
    os.environ[HOME_VARIABLE] = str(home)
    for name, value in MANY_PARTITIONS.items():
        os.environ.setdefault(name, value)
    return home


@contextmanager
def instance() -> Iterator["dg.DagsterInstance"]:
    """Open the Dagster instance of `dagster_home()`.

    Raises SettingError if it cannot be opened, LaionAssetsError if its database fails later (a full disk).
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
                f"Dagster's database (instance {home}) failed: {error.orig}. Free disk space or start the "
                "database, then run the command again; committed partitions are kept."
            ) from error
