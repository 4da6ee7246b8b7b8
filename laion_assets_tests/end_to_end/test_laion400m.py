"""`laion400m` runs against the loopback site with only source, root and model set."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from laion_assets.dataset.built_in import LAION400M
from laion_assets.dataset.dataset import SAMPLE_MODEL, SAMPLE_SITE, Dataset
from laion_assets.definitions import build_definitions
from laion_assets.errors import LaionAssetsError
from laion_assets.orchestration.runs import materialize_stage
from laion_assets.stages.status import DatasetStatus


@pytest.fixture
def laion400m(tmp_path: Path) -> Dataset:
    return replace(LAION400M, source=SAMPLE_SITE, root=str(tmp_path), model=SAMPLE_MODEL)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as opened:
        yield opened


def test_parquet_shards_and_an_embedding_file_then_the_index_refuses(
    laion400m: Dataset, instance: dg.DagsterInstance
) -> None:
    definitions = build_definitions(laion400m)
    for asset, within in (
        ("raw_csv", None),
        ("dedup_parquet", None),
        ("image_shards", range(104)),
        ("clip_embeddings", range(1)),
    ):
        materialize_stage(laion400m, definitions, asset, instance, within)
    freshness = DatasetStatus(laion400m)
    assert [state.state for state in freshness.states("dedup_parquet")] == ["complete"] * 32
    shards = freshness.states("image_shards")
    assert [state.key for state in shards if state.state == "complete"] == [f"{shard:05d}" for shard in range(104)]
    assert sum(state.manifest.counts.rows_out for state in shards[:104] if state.manifest) > 0
    embeddings = freshness.states("clip_embeddings")
    assert [state.key for state in embeddings if state.state == "complete"] == ["000"]
    with pytest.raises(LaionAssetsError, match=r"001 \(not committed\)"):
        materialize_stage(laion400m, definitions, "knn_indices", instance)
    assert freshness.state("knn_indices", 0).state == "missing"
