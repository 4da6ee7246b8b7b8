"""A dataset without partitions, and a copy of the shards of img2dataset."""

from pathlib import Path

import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets_tests.stages.adopted_files import empty_dataset, img2dataset_shards, own_copy


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster_home"))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return empty_dataset(tmp_path / "data")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shards of img2dataset."""
    return own_copy(img2dataset_shards()[0], tmp_path / "theirs")
