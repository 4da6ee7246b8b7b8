"""The code locations load fast without heavy imports, and every partition mapping is total and monotone."""

import itertools
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from laion_assets.dataset.built_in import LAION400M, SAMPLE
from laion_assets.dataset.dataset import Dataset
from laion_assets.definitions import build_definitions
from laion_assets.orchestration.partitions import partition_keys, upstream_mapping
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.knn_indices.handle import KNN_INDICES
from laion_assets.stages.registry import find_stage, list_stages, pipeline_names
from laion_assets.stages.search_report.handle import SEARCH_REPORT

PIPELINE = pipeline_names(SAMPLE)
SUMMARIES = {
    stage.name: stage.upstream(SAMPLE).name
    for stage in list_stages(SAMPLE)
    if stage.reads_incomplete_input and stage.upstream
}

TOP = Path(__file__).parent.parent
HEAVY = ("torch", "pyspark", "img2dataset", "faiss", "autofaiss", "open_clip", "cv2", "pandas", "matplotlib")


def test_loading_the_definitions_imports_no_heavy_library() -> None:
    code = (
        "import sys, laion_assets.definitions as d; d.laion400m(); d.sample(); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_all_locations_load_and_validate(tmp_path: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "dagster", "definitions", "validate", "--workspace", TOP / "workspace.yaml"],
        capture_output=True,
        text=True,
        cwd=TOP,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "DAGSTER_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("dataset", [LAION400M, SAMPLE], ids=lambda dataset: dataset.name)
def test_the_graph_has_the_declared_assets_and_partitions(dataset: Dataset) -> None:
    graph = build_definitions(dataset).resolve_asset_graph()
    layout = dataset.layout
    sizes = {
        asset: len(definition.get_partition_keys()) if (definition := graph.get(key).partitions_def) else 1
        for asset in PIPELINE
        for key in [dg.AssetKey([dataset.name, asset])]
    }
    assert list(sizes.values()) == [1, layout.parquet_files, layout.shards, layout.embedding_files, 1]
    for before, after in itertools.pairwise(PIPELINE):
        assert graph.get(dg.AssetKey([dataset.name, after])).parent_keys == {dg.AssetKey([dataset.name, before])}


@pytest.mark.parametrize("dataset", [LAION400M, SAMPLE], ids=lambda dataset: dataset.name)
@pytest.mark.parametrize(("asset", "before"), [(IMAGE_SHARDS, DEDUP_PARQUET), (CLIP_EMBEDDINGS, IMAGE_SHARDS)])
def test_every_mapping_is_total_and_monotone(dataset: Dataset, asset: str, before: str) -> None:
    mapping = upstream_mapping(dataset, asset)
    assert isinstance(mapping, dg.StaticPartitionMapping)
    downstream = mapping.downstream_partition_keys_by_upstream_partition_key
    upstream_of: dict[str, list[int]] = {}
    for upstream_key, keys in downstream.items():
        for key in [keys] if isinstance(keys, str) else keys:
            upstream_of.setdefault(key, []).append(int(upstream_key))
    assert sorted(downstream) == partition_keys(dataset, before)
    assert sorted(upstream_of) == partition_keys(dataset, asset)
    spans = [sorted(upstream_of[key]) for key in partition_keys(dataset, asset)]
    assert all(left[-1] <= right[0] for left, right in itertools.pairwise(spans))


@pytest.mark.parametrize("dataset", [LAION400M, SAMPLE], ids=lambda dataset: dataset.name)
def test_summaries_depend_on_all_partitions_of_their_asset(dataset: Dataset) -> None:
    definitions = build_definitions(dataset)
    graph = definitions.resolve_asset_graph()
    for asset, counted in SUMMARIES.items():
        key, parent = dg.AssetKey([dataset.name, asset]), dg.AssetKey([dataset.name, counted])
        assert graph.get(key).parent_keys == {parent}
        assert graph.get(key).partitions_def is None
        assert isinstance(graph.get_partition_mapping(key, parent), dg.AllPartitionMapping)
        assert graph.get_check_keys_for_assets({key}) == {
            dg.AssetCheckKey(key, name) for name in ("row_counts", "up_to_date")
        }


@pytest.mark.parametrize("asset", PIPELINE)
def test_partition_keys_have_one_width_and_only_digits(asset: str) -> None:
    for dataset in (LAION400M, SAMPLE):
        keys = partition_keys(dataset, asset)
        assert len(set(keys)) == len(find_stage(asset).handle.numbers(dataset.layout))
        if len(keys) > 1:
            assert {len(key) for key in keys} == {len(keys[0])}
            assert all(key.isdigit() for key in keys)


def test_every_asset_has_a_description(dataset: Dataset) -> None:
    for definition in build_definitions(dataset).assets or []:
        assert isinstance(definition, dg.AssetsDefinition)
        assert len(next(iter(definition.descriptions_by_key.values()))) > 200


def test_columns_name_the_columns_that_they_are_made_from(dataset: Dataset) -> None:
    lineage: dict[str, dict[str, list[str]]] = {}
    schemas = {}
    for asset in build_definitions(dataset).assets or []:
        assert isinstance(asset, dg.AssetsDefinition)
        (metadata,) = asset.metadata_by_key.values()
        name = asset.key.path[-1]
        if "dagster/column_schema" in metadata:
            schemas[name] = {column.name for column in metadata["dagster/column_schema"].columns}
        if found := metadata.get("dagster/column_lineage"):
            before = {dep.asset_key.path[-1] for deps in found.deps_by_column.values() for dep in deps}
            (upstream,) = before
            assert {dep.column_name for deps in found.deps_by_column.values() for dep in deps} <= schemas[upstream]
            assert found.deps_by_column.keys() <= schemas[name]
            lineage[name] = {column: [dep.column_name for dep in deps] for column, deps in found.deps_by_column.items()}
    assert sorted(lineage["dedup_parquet"]["uid"]) == ["TEXT", "URL"]
    assert lineage["image_shards"]["caption"] == ["TEXT"]
    assert lineage["image_shards"]["uid"] == ["uid"]
    assert "key" not in lineage["image_shards"], "made by the stage"
    assert lineage["clip_embeddings"]["image_path"] == ["key"]


def test_every_table_asset_describes_its_columns(dataset: Dataset) -> None:
    for asset in build_definitions(dataset).assets or []:
        assert isinstance(asset, dg.AssetsDefinition)
        (metadata,) = asset.metadata_by_key.values()
        if asset.key.path[-1] in (KNN_INDICES, SEARCH_REPORT):
            assert "dagster/column_schema" not in metadata
            continue
        columns = metadata["dagster/column_schema"].columns
        assert columns
        assert all(column.description for column in columns), [each.name for each in columns if not each.description]
