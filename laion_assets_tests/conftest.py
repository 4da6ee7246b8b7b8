"""Fixtures that all tests share."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("WANDB_MODE", "disabled")

import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import hypothesis
import pytest

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.dataset import Dataset
from laion_assets_tests.chains import ChainScheduling, sort_items
from laion_assets_tests.postgres import Database, postgres
from laion_assets_tests.spark_cluster import Cluster, standalone_cluster

TOP = Path(__file__).parent.parent

# An example may take long on a busy machine. pytest-timeout ends a test that hangs.
hypothesis.settings.register_profile(
    "busy machines", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy machines")


def pytest_configure() -> None:
    """Restore SIGINT. Background jobs of a shell ignore it, and Dagster would then ignore SIGTERM too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest chains first, so that two processes end at about the same time."""
    items[:] = sort_items(items)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ChainScheduling:
    """With `-n 2`, tests that share an expensive fixture run in one process."""
    config.option.loadscopereorder = False
    return ChainScheduling(config, log)


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests use the declared settings: nothing from the environment of this machine."""
    for name in [name for name in os.environ if name.startswith(("LAION_", "DAGSTER_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def dataset(tmp_path: Path) -> Iterator[Dataset]:
    """The sample dataset with its own root."""
    return replace(SAMPLE, root=str(tmp_path / "data"))


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """A small real Spark session in this process, shared by all tests."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    from pyspark.sql import SparkSession

    from laion_assets.orchestration.resources.spark import SPARK_CONF

    builder = SparkSession.builder.master("local[2]").config("spark.driver.memory", "2g")
    for name, value in SPARK_CONF.items():
        builder = builder.config(name, value)
    from laion_assets.orchestration.resources.spark import end_jvm

    yield builder.getOrCreate()
    end_jvm()  # a test that materialized dedup_parquet in this process has done this already


@pytest.fixture(scope="session")
def spark_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real Spark standalone cluster of two workers. Drivers run in separate processes."""
    with standalone_cluster(tmp_path_factory.mktemp("spark")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Database]:
    """A real PostgreSQL on loopback. Each test creates its own database."""
    with postgres() as database:
        yield database


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def instance(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """A new Dagster instance, configured by `dagster_home/dagster.yaml` or `deploy/dagster.yaml`."""
    home = tmp_path / "dagster_home"
    home.mkdir()
    if request.param == "postgres":
        for name, value in request.getfixturevalue("postgres_server").another().environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
    shutil.copy(TOP / ("deploy" if request.param == "postgres" else "dagster_home") / "dagster.yaml", home)
    with dg.DagsterInstance.from_config(str(home)) as opened:
        yield opened


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """The URL of an empty bucket on an S3 server on loopback."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    old = {
        name: os.environ.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "FSSPEC_S3_ENDPOINT_URL")
    }
    os.environ.update(
        AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", FSSPEC_S3_ENDPOINT_URL=f"http://{host}:{port}"
    )
    import fsspec
    from fsspec.config import conf, set_conf_env

    set_conf_env(conf)
    fsspec.filesystem("s3").mkdir("bucket")
    yield "s3://bucket"
    server.stop()
    conf.pop("s3", None)
    for name, value in old.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})
