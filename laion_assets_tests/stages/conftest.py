"""Fixtures of the stages: a web site of CSV files."""

from collections.abc import Iterator

import pytest

from laion_assets_tests.stages.raw_csv.csv_site import CsvSite


@pytest.fixture
def site() -> Iterator[CsvSite]:
    """A directory listing over real HTTP; add files to it."""
    with CsvSite() as running:
        yield running
