"""Fixtures of the service's tests: one service over the small dataset, shared by tests that change nothing."""

from collections.abc import Iterator

import pytest

from laion_assets_tests.server.page.fixtures import browser, demo, opened, reports, site
from laion_assets_tests.server.running import Client, running_service
from laion_assets_tests.stages.clip_embeddings.fixtures import built
from laion_assets_tests.stages.clip_embeddings.small_dataset import built_root, small_dataset

__all__ = ["browser", "built", "demo", "opened", "reports", "site"]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A running service over the small dataset, in which two thirds of the rows are hidden."""
    with running_service(small_dataset(built_root())) as running:
        yield running
