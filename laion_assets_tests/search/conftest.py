"""Fixtures of the search tests: the small dataset, and one that is indexed with the sample's model."""

from dataclasses import replace

import pytest

from laion_assets.dataset.dataset import SAMPLE_MODEL, Dataset
from laion_assets.models.loading import load_model
from laion_assets.stages.clip_embeddings.build import build_embedding_file
from laion_assets.stages.knn_indices.build import build_indices
from laion_assets.store.store import Store
from laion_assets_tests.stages.clip_embeddings.fixtures import bare, built, sharded
from laion_assets_tests.stages.clip_embeddings.small_dataset import LAYOUT, commit_shard, small_dataset

__all__ = ["bare", "built", "sample_model_dataset", "sharded"]


@pytest.fixture(scope="module")
def sample_model_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Twenty images, embedded and indexed with the sample's model."""
    dataset = replace(small_dataset(tmp_path_factory.mktemp("sample-model")), model=SAMPLE_MODEL)
    model = load_model(SAMPLE_MODEL, device="cpu")
    for shard in range(LAYOUT.shards):
        commit_shard(dataset, shard, 5)
    for embedding in range(LAYOUT.embedding_files):
        build_embedding_file(dataset, Store.of(dataset), embedding, model, lambda line: None)
    build_indices(dataset, Store.of(dataset), lambda line: None)
    return dataset
