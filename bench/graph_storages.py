"""Dagster's servers on each storage, set up as in this project: `dagster dev` on SQLite, `deploy/` on PostgreSQL."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from laion_assets.dataset.dataset import Dataset
from laion_assets.orchestration.instance import MANY_PARTITIONS
from laion_assets_tests.end_to_end.conftest import TOP
from laion_assets_tests.end_to_end.dagster_ui import DagsterPage, dagster_page, wait_until
from laion_assets_tests.end_to_end.deployment import deployment
from laion_assets_tests.postgres import postgres


@dataclass(frozen=True)
class Storage:
    """Running servers: a client of the web server, the folder of files and instance, and the environment for both."""

    dataset: Dataset
    page: DagsterPage
    home: Path
    environment: dict[str, str]
    restart_web_server: Callable[[], None] = lambda: None
    """Restarts the web server if it is a separate process."""


@contextlib.contextmanager
def sqlite(home: Path, dataset: Dataset) -> Iterator[Storage]:
    """`dagster dev` with `dagster_home/dagster.yaml`; SQLite on the disk of `home`."""
    instance = home / "dagster_home"
    instance.mkdir(parents=True, exist_ok=True)
    shutil.copy(TOP / "dagster_home" / "dagster.yaml", instance)
    environment = {"DAGSTER_HOME": str(instance), "LAION_ASSETS_ROOT": str(home / "data"), **MANY_PARTITIONS}
    with dagster_page(home, **MANY_PARTITIONS) as page:
        yield Storage(dataset, page, home, os.environ | environment)


@contextlib.contextmanager
def postgresql(home: Path, dataset: Dataset) -> Iterator[Storage]:
    """The services of `deploy/compose.yaml` as processes, over a PostgreSQL that waits for its disk."""
    home.mkdir(parents=True, exist_ok=True)
    with postgres(durable=True) as database, deployment(home, database) as running:

        def restart_web_server() -> None:
            running.kill("webserver")
            running.start("webserver")
            wait_until(lambda: dataset.name in running.page.loaded()[0], 60)

        yield Storage(dataset, running.page, home, running.environment, restart_web_server)


STORAGES: dict[str, Callable[[Path, Dataset], contextlib.AbstractContextManager[Storage]]] = {
    "sqlite": sqlite,
    "postgres": postgresql,
}
