"""A stage is added by one folder and one line in the list of stages; everything else derives from its description."""

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.definitions import build_definitions
from laion_assets.orchestration.checks.row_counts import verify
from laion_assets.orchestration.runs import materialize
from laion_assets.stages.dedup_parquet.stage import STAGE as DEDUP_PARQUET
from laion_assets.stages.registry import STAGES, stage_names
from laion_assets.stages.status import DatasetStatus, State
from laion_assets.store.store import Store
from laion_assets_tests.end_to_end.dagster_ui import dagster_page
from laion_assets_tests.stages.statistics.tables import commit_dedup, dedup_rows
from laion_assets_tests.stages.toy_stage import stage as toy
from laion_assets_tests.tiny_dataset import tiny_dataset

PROJECT = Path(__file__).with_name("project.py")
ROWS = 45
NODE = """query Node($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { __typename ... on AssetNode {
  description kinds partitionKeys dependencyKeys { path } } } }"""
MATERIALIZED = """query Node($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  assetMaterializations { partition } } } }"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dataset]:
    """The tiny dataset with the toy stage in its list of stages, and two parquet files of 45 rows each."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster_home"))
    (tmp_path / "dagster_home").mkdir()
    monkeypatch.setitem(toy.settings, "ascii_is", "english")
    dataset = tiny_dataset(tmp_path, {})
    for partition in range(2):
        commit_dedup(dataset, partition, dedup_rows(partition, ROWS))
    STAGES.insert(STAGES.index(DEDUP_PARQUET) + 1, toy.STAGE)
    yield dataset
    STAGES.remove(toy.STAGE)


def states(dataset: Dataset) -> list[State]:
    return [state.state for state in DatasetStatus(dataset).states(toy.CAPTION_LANGUAGES)]


def test_the_graph_has_the_stage_with_its_partitions_mapping_and_checks(tiny: Dataset) -> None:
    assert stage_names(tiny)[1:3] == ["dedup_parquet", toy.CAPTION_LANGUAGES]
    graph = build_definitions(tiny).resolve_asset_graph()
    key, parent = dg.AssetKey(["tiny", toy.CAPTION_LANGUAGES]), dg.AssetKey(["tiny", "dedup_parquet"])
    definition = graph.get(key).partitions_def
    assert definition is not None
    assert list(definition.get_partition_keys()) == ["00", "01"]
    assert graph.get(key).parent_keys == {parent}
    assert isinstance(graph.get_partition_mapping(key, parent), dg.StaticPartitionMapping)
    assert {check.name for check in graph.get_check_keys_for_assets({key})} == {"row_counts", "up_to_date"}


def test_it_is_run_skipped_stale_and_verified_like_every_stage(tiny: Dataset) -> None:
    assert states(tiny) == [State.MISSING] * 2
    (report,) = materialize(tiny, [toy.CAPTION_LANGUAGES])
    assert (report.partitions, report.ran, report.rows_in, report.rows_out) == (2, 2, 2 * ROWS, 2 * ROWS)
    assert states(tiny) == [State.COMPLETE] * 2
    assert materialize(tiny, [toy.CAPTION_LANGUAGES])[0].ran == 0
    toy.settings["ascii_is"] = "latin"
    assert states(tiny) == [State.STALE] * 2
    toy.settings["ascii_is"] = "english"
    commit_dedup(tiny, 1, dedup_rows(7, ROWS))
    assert states(tiny) == [State.COMPLETE, State.STALE]

    def load_no_model() -> None:
        raise AssertionError("the check needs no model")

    assert verify(tiny, toy.CAPTION_LANGUAGES, (0, 1), load_no_model) == {}
    Store.of(tiny).write_bytes("caption_languages/00.json", json.dumps({"english": ROWS - 1}).encode())
    found = verify(tiny, toy.CAPTION_LANGUAGES, (0, 1), load_no_model)
    assert found == {"00": [f"caption_languages/00.json counts {ROWS - 1} captions and its manifest {ROWS}"]}


def test_the_dagster_ui_has_a_page_for_it(tiny: Dataset, tmp_path: Path) -> None:
    materialize(tiny, [toy.CAPTION_LANGUAGES])
    key = {"path": ["tiny", toy.CAPTION_LANGUAGES]}
    with dagster_page(tmp_path, PROJECT, TINY_FOLDER=str(tmp_path)) as page:
        node = page.graphql(NODE, key=key)["assetNodeOrError"]
        made = page.graphql(MATERIALIZED, key=key)["assetNodeOrError"]["assetMaterializations"]
    assert node["description"].strip().startswith("Count captions by language.")
    assert node["kinds"] == ["json"]
    assert node["partitionKeys"] == ["00", "01"]
    assert [one["path"] for one in node["dependencyKeys"]] == [["tiny", "dedup_parquet"]]
    assert sorted(one["partition"] for one in made if one["partition"]) == ["00", "01"]
