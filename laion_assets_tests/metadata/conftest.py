"""Fixtures of the metadata half: one Spark for all tests, and a web site of CSVs."""

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from laion_assets_tests.metadata.csv_site import CsvSite


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """A real Spark, as small as a laptop's."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    from pyspark.sql import SparkSession

    from laion_assets.metadata.spark_settings import SPARK_CONF

    builder = SparkSession.builder.master("local[2]").config("spark.driver.memory", "2g")
    for name, value in SPARK_CONF.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


@pytest.fixture
def site() -> Iterator[CsvSite]:
    """A directory listing over real HTTP; add files to it."""
    with CsvSite() as running:
        yield running
