"""The asset `search_report` in a Dagster run, with its checks."""

from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.definitions import build_definitions
from laion_assets.orchestration.runs import materialize_stage
from laion_assets.stages.search_report.handle import SEARCH_REPORT
from laion_assets.stages.search_report.settings import SearchReportSettings
from laion_assets_tests.stages.clip_embeddings.fixtures import built

__all__ = ["built"]


@pytest.fixture
def dataset(built: Dataset) -> Dataset:
    return replace(built, search_report=SearchReportSettings(queries=("a red tree",), near_duplicates=2))


def test_a_run_commits_the_report_and_passes_its_checks(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "dagster").mkdir()
    definitions = build_definitions(dataset)
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        report = materialize_stage(dataset, definitions, SEARCH_REPORT, instance)
        assert (report.ran, report.rows_in, report.rows_out) == (1, 1, 1)
        key = dg.AssetKey([dataset.name, SEARCH_REPORT])
        event = instance.get_latest_materialization_event(key)
        assert event is not None
        assert event.asset_materialization is not None
        assert {"report", "recall_at_10", "latency", "results", "plots"} <= set(event.asset_materialization.metadata)
        (run,) = instance.get_runs()
        checks = [
            record.event_log_entry.dagster_event.asset_check_evaluation_data
            for record in instance.get_records_for_run(
                run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
            ).records
        ]
        assert {check.check_name: check.passed for check in checks} == {"row_counts": True, "up_to_date": True}
        assert materialize_stage(dataset, definitions, SEARCH_REPORT, instance).ran == 0


def test_it_depends_only_on_the_indices_and_nothing_depends_on_it(dataset: Dataset) -> None:
    graph = build_definitions(dataset).resolve_asset_graph()
    node = graph.get(dg.AssetKey([dataset.name, SEARCH_REPORT]))
    assert node.parent_keys == {dg.AssetKey([dataset.name, "knn_indices"])}
    assert node.child_keys == set()
