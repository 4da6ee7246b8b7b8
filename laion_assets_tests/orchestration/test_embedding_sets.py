"""The embedding sets of a dataset are part of its graph: they begin with its image shards and are built by its jobs."""

from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from laion_assets.dataset.built_in import BUILT_IN, SAMPLE
from laion_assets.dataset.embedding_set import EmbeddingSet
from laion_assets.dataset.settings.resolution import known_datasets, resolve_settings
from laion_assets.definitions import declared, sample
from laion_assets.dg_definitions import all_datasets
from laion_assets.orchestration.code_locations import known_locations, location_name
from laion_assets.orchestration.definitions import build_definitions
from laion_assets.stages.registry import list_stages

OWN = ("clip_embeddings", "knn_indices", "search_report")
SETS = (EmbeddingSet("small", "RN50"), EmbeddingSet("large", "ViT-L/14"))
FILE = """
[sample.embedding_sets.small]
model = "RN50"
[dataset.mine]
source = "sample-site:"
model = "sample-clip"
layout = { parquet_files = 2, shards = 4, embedding_files = 2, rows_per_shard = 50 }
embedding_sets.other.model = "RN101"
"""


def keys_of(definitions: dg.Definitions) -> set[str]:
    return {key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings file of this process, with two embedding sets."""
    (tmp_path / "laion-assets.toml").write_text(FILE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)


def test_the_sets_begin_with_the_image_shards_of_their_dataset() -> None:
    dataset, name = SAMPLE, SAMPLE.name
    definitions = build_definitions(replace(dataset, embedding_sets=SETS))
    graph = definitions.resolve_asset_graph()
    own = {f"{name}_{each.name}/{asset}" for each in SETS for asset in OWN}
    assert keys_of(definitions) == {f"{name}/{stage.name}" for stage in list_stages(dataset)} | own
    shards = dg.AssetKey([name, "image_shards"])
    for each in SETS:
        embeddings, index, report = (dg.AssetKey([f"{name}_{each.name}", asset]) for asset in OWN)
        of_dataset = dg.AssetKey([name, "clip_embeddings"])
        assert graph.get(embeddings).parent_keys == {shards}
        assert graph.get(index).parent_keys == {embeddings}
        assert graph.get(report).parent_keys == {index}
        assert graph.get(embeddings).partitions_def == graph.get(of_dataset).partitions_def
        assert graph.get_partition_mapping(embeddings, shards) == graph.get_partition_mapping(of_dataset, shards)
        assert isinstance(graph.get_partition_mapping(index, embeddings), dg.AllPartitionMapping)
        for key in (embeddings, index, report):
            assert graph.get(key).group_name == name, "one lineage"
            assert each.name in graph.get(key).kinds, "the Dagster UI hides the name of the dataset"
            assert {check.name for check in graph.get_check_keys_for_assets({key})} == {"row_counts", "up_to_date"}
        assert graph.get(embeddings).pools == graph.get(of_dataset).pools == {"gpu"}
        assert definitions.resources[f"{name}_{each.name}_clip_model"].model == each.model
    assert definitions.resources[f"{name}_clip_model"].model == dataset.model
    assert [job.name for job in definitions.jobs or []] == [f"{name}_all", f"{name}_retry_failed"]


def test_automation_and_columns_cover_the_sets() -> None:
    dataset = replace(SAMPLE, embedding_sets=SETS, dagster=replace(SAMPLE.dagster, automation="eager"))
    definitions = build_definitions(dataset)
    (sensor,) = [each for each in definitions.sensors or [] if each.name == "sample_automation"]
    selected = sensor.asset_selection.resolve(definitions.resolve_asset_graph())
    assert {key.to_user_string() for key in selected} == keys_of(definitions)
    (embeddings,) = [asset for asset in definitions.assets or [] if asset.key.path[0] == "sample_small"][:1]
    (metadata,) = embeddings.metadata_by_key.values()
    deps = {dep.asset_key for found in metadata["dagster/column_lineage"].deps_by_column.values() for dep in found}
    assert deps == {dg.AssetKey(["sample", "image_shards"])}


def test_a_set_alone_has_the_same_keys_up_to_its_image_shards() -> None:
    """Runs of the command line load the graph of one dataset value only."""
    dataset = replace(SAMPLE, embedding_sets=SETS, dagster=replace(SAMPLE.dagster, automation="eager"))
    alone = build_definitions(dataset.embedding_set("small"))
    shared = {f"sample/{stage.name}" for stage in list_stages(SAMPLE) if stage.name not in OWN}
    assert keys_of(alone) == shared | {f"sample_small/{asset}" for asset in OWN}
    assert keys_of(alone) < keys_of(build_definitions(dataset))


@pytest.mark.usefixtures("file")
def test_code_locations_have_the_sets_of_the_settings_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"sample_small/knn_indices", "sample/knn_indices"} < keys_of(sample())
    own = {"mine_other/clip_embeddings", "mine/clip_embeddings", "mine/image_shards"}
    assert own < keys_of(declared())
    assert "mine_other/image_shards" not in keys_of(declared())
    few = {name: each for name, each in known_datasets().items() if name not in ("laion400m", "rehearsal")}
    monkeypatch.setattr("laion_assets.dg_definitions.known_datasets", lambda: few)
    assert own | {"sample_small/clip_embeddings"} < keys_of(all_datasets())
    small = resolve_settings(replace(SAMPLE, embedding_sets=SETS).embedding_set("small"))
    assert location_name(small) == "sample"
    assert known_locations() == [*BUILT_IN, "declared"]
