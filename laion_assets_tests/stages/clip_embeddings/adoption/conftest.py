"""A dataset with adopted shards, and the embeddings that clip-retrieval made from the same shards."""

import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.orchestration import adoption
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets_tests.stages.adopted_files import (
    clip_retrieval_embeddings,
    empty_dataset,
    img2dataset_shards,
    own_copy,
)


@cache
def adopted_root() -> Path:
    """A root in which the shards of img2dataset are adopted. Copy it before changing it."""
    root = Path(tempfile.mkdtemp(prefix="laion-assets-test-")) / "data"
    assert adoption.adopt(empty_dataset(root), IMAGE_SHARDS, img2dataset_shards()[0], copy=True).refused == []
    return root


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster_home"))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """A dataset of four adopted shards and one embedding file."""
    shutil.copytree(adopted_root(), tmp_path / "data")
    return empty_dataset(tmp_path / "data")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the embeddings of clip-retrieval, in one file."""
    return own_copy(clip_retrieval_embeddings(), tmp_path / "theirs")
