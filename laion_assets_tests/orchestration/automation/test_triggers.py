"""The sensor requests one run for each state of the source; schedule and sensor are off; automation asks once."""

from dataclasses import replace
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.settings.dagster_settings import DagsterSettings
from laion_assets.definitions import build_definitions
from laion_assets.errors import SettingError
from laion_assets.orchestration.partitions import partition_keys
from laion_assets.stages.published_parquet.build import observe_published
from laion_assets.stages.published_parquet.changes import find_changes as find_published_changes
from laion_assets.stages.raw_csv.build import fetch_raw_csv
from laion_assets.store.store import Store


def sensor_of(dataset: Dataset) -> dg.SensorDefinition:
    (sensor,) = build_definitions(dataset).sensors or []
    assert isinstance(sensor, dg.SensorDefinition)
    return sensor


def test_schedule_and_sensor_are_off_and_target_the_job() -> None:
    definitions = build_definitions(SAMPLE)
    (schedule,) = definitions.schedules or []
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert (schedule.name, schedule.cron_schedule) == ("sample_daily", "0 3 * * *")
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
    assert (schedule.job_name, sensor_of(SAMPLE).job_name) == ("sample_all", "sample_all")
    assert sensor_of(SAMPLE).default_status is dg.DefaultSensorStatus.STOPPED


def test_a_cron_expression_that_dagster_refuses_is_named() -> None:
    with pytest.raises(SettingError, match=r"dagster\.schedule is '0 99 \* \* \*': it is not a valid cron expression"):
        build_definitions(replace(SAMPLE, dagster=DagsterSettings(schedule="0 99 * * *")))


def test_the_sensor_requests_one_run_for_each_state_of_the_source(dataset: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "csv"
    folder.mkdir()
    (folder / "a.csv").write_text("URL|TEXT\n")
    dataset = replace(dataset, source=str(folder))
    sensor, cursor = sensor_of(dataset), None

    def evaluate() -> str:
        nonlocal cursor
        context = dg.build_sensor_context(cursor=cursor, sensor_name=sensor.name)
        result = sensor(context)
        cursor = context.cursor
        return "run" if isinstance(result, dg.RunRequest) else str(result.skip_message)

    assert evaluate() == "run"
    assert evaluate() == "The source has 1 new, 0 changed and 0 deleted files, and a run was requested for them."
    fetch_raw_csv(dataset, Store.of(dataset), lambda line: None)
    assert evaluate() == "The source has no new, changed or deleted files."
    (folder / "b.csv").write_text("URL|TEXT\n")
    assert evaluate() == "run"
    (folder / "a.csv").write_text("URL|TEXT\nhttp://a.test/1.jpg|a\n")
    assert evaluate() == "run", "another state"
    assert evaluate().startswith("The source has 1 new, 1 changed and 0 deleted files")
    (folder / "a.csv").unlink()
    assert evaluate() == "run"
    fetch_raw_csv(dataset, Store.of(dataset), lambda line: None)
    assert evaluate() == "The source has no new, changed or deleted files.", "kept files are known to be deleted"


def test_published_files_are_compared_with_the_last_observation(dataset: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    folder.mkdir()
    for name in ("a", "b", "c"):
        pq.write_table(pa.table({"url": ["http://a.test/1.jpg"], "caption": [name]}), folder / f"{name}.parquet")
    dataset = replace(dataset, source="", published=(str(folder),))
    assert len(find_published_changes(dataset).new) == 3
    observe_published(dataset, Store.of(dataset), lambda line: None)
    assert not find_published_changes(dataset)
    (folder / "a.parquet").unlink()
    pq.write_table(pa.table({"url": ["http://a.test/1.jpg"] * 9, "caption": ["b"] * 9}), folder / "b.parquet")
    assert str(find_published_changes(dataset)) == "0 new, 1 changed and 1 deleted files"


@pytest.mark.parametrize("automation", ["eager", "on_missing"])
def test_automation_asks_for_each_missing_partition_once_when_its_inputs_are_there(automation: str) -> None:
    dataset = replace(SAMPLE, dagster=DagsterSettings(automation=automation))
    definitions = build_definitions(dataset)
    assert [sensor.name for sensor in definitions.sensors or []] == ["sample_new_files", "sample_automation"]
    cursor = None
    with dg.instance_for_test() as instance:

        def requested() -> dict[str, int]:
            nonlocal cursor
            result = dg.evaluate_automation_conditions(definitions, instance, cursor=cursor)
            cursor = result.cursor
            return {each.key.path[-1]: each.true_subset.size for each in result.results if each.true_subset.size}

        def materialize(asset: str, *keys: str | None) -> None:
            for key in keys:
                instance.report_runless_asset_event(dg.AssetMaterialization(["sample", asset], partition=key))

        assert requested() == {"raw_csv": 1}
        assert requested() == {}, "a failed run is not repeated"
        materialize("raw_csv", None)
        assert requested() == {"dedup_parquet": 4}
        materialize("dedup_parquet", *partition_keys(dataset, "dedup_parquet"))
        assert requested() == {"image_shards": 24, "dataset_statistics": 1}
        materialize("image_shards", "00000", "00001", "00002", "00003", None)
        assert requested() == {"clip_embeddings": 1}, "the first embedding file has its four shards"
        assert requested() == {}
        materialize("image_shards", "00000")
        assert requested() == ({"clip_embeddings": 1} if automation == "eager" else {}), "an input was built again"


def test_owners_and_tags_are_on_every_asset_and_automation_is_off() -> None:
    settings = DagsterSettings(owners=("team:data",), tags={"domain": "images"})
    for asset in build_definitions(replace(SAMPLE, dagster=settings)).assets or []:
        assert isinstance(asset, dg.AssetsDefinition)
        (spec,) = asset.specs
        assert list(spec.owners) == ["team:data"]
        assert spec.tags["domain"] == "images"
        assert spec.automation_condition is None
