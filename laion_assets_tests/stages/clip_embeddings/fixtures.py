"""Fixtures over the small dataset, for the tests of embeddings, index and search."""

import shutil
from pathlib import Path

import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets_tests.stages.clip_embeddings.small_dataset import built_root, commit_shards, small_dataset


@pytest.fixture
def bare(tmp_path: Path) -> Dataset:
    """The small dataset, without committed partitions."""
    return small_dataset(tmp_path)


@pytest.fixture
def sharded(bare: Dataset) -> Dataset:
    """The small dataset with its shards published."""
    commit_shards(bare)
    return bare


@pytest.fixture
def built(tmp_path: Path) -> Dataset:
    """The small dataset with everything published: a copy of one's own, to be broken."""
    shutil.copytree(built_root(), tmp_path, dirs_exist_ok=True)
    return small_dataset(tmp_path)
