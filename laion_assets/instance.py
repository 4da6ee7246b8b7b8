"""The Dagster instance: the folder that the page, the daemon and runs from a shell share."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

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
    """The instance's folder: DAGSTER_HOME, or `dagster_home` here; made, with telemetry off, if it is not there."""
    home = Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).absolute()
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        (home / "dagster.yaml").write_text(_MINIMAL_INSTANCE, encoding="utf-8")
    os.environ[HOME_VARIABLE] = str(home)
    for name, value in MANY_PARTITIONS.items():
        os.environ.setdefault(name, value)
    return home


@contextmanager
def instance() -> Iterator["dg.DagsterInstance"]:
    """The Dagster instance of `dagster_home()`."""
    import dagster as dg

    dagster_home()
    with dg.DagsterInstance.get() as opened:
        yield opened
