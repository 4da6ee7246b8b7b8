"""One partition of each partitioned asset, launched in every way that Dagster has.

The first tests make the tiny dataset one partition at a time; those of the marker `browser`, in the order of this file,
make its partitions again. The fixture `begun` makes what the first tests leave, where only that marker is selected.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, Page, expect, sync_playwright

from laion_assets.dataset.dataset import Dataset
from laion_assets.orchestration.partitions import partition_keys
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.raw_csv.handle import RAW_CSV
from laion_assets.stages.registry import STAGES
from laion_assets.stages.status import DatasetStatus
from laion_assets.store.manifest import manifest_path
from laion_assets.store.store import Store
from laion_assets_tests.end_to_end.conftest import BIN, TOP, environment
from laion_assets_tests.end_to_end.dagster_ui import DagsterPage, dagster_page, wait_until
from laion_assets_tests.end_to_end.test_browser import ARTIFACTS, CHROMIUM_FLAGS, TIMEOUT_MS, shoot
from laion_assets_tests.tiny_dataset import served_dataset

PARTITIONED = [stage.name for stage in STAGES if stage.is_partitioned]

PROJECT = Path(__file__).with_name("partition_project.py")
SENSOR_SHARD, SCHEDULE_SHARD = "00001", "00002"
START_SENSOR = """mutation Start($selector: SensorSelector!) { startSensor(sensorSelector: $selector) {
  __typename ... on PythonError { message } } }"""
START_SCHEDULE = """mutation Start($selector: ScheduleSelector!) { startSchedule(scheduleSelector: $selector) {
  ... on ScheduleStateResult { scheduleState { id } } } }"""
STOP_SCHEDULE = "mutation Stop($id: String!) { stopRunningSchedule(id: $id) { __typename } }"
RUNS = """{ runsOrError { ... on Runs { results { runId status assetSelection { path } tags { key value } } } } }"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataset]:
    with served_dataset(tmp_path_factory.mktemp("launches")) as dataset:
        yield dataset


@pytest.fixture(scope="module")
def variables(tiny: Dataset) -> dict[str, str]:
    return {"TINY_FOLDER": str(Path(tiny.root).parent), "TINY_RESOLVE": json.dumps(tiny.resolve)}


@pytest.fixture(scope="module")
def page(tiny: Dataset, variables: dict[str, str]) -> Iterator[DagsterPage]:
    """The project in `dagster dev`; several runs at a time, for most of a run is its start."""
    home = Path(tiny.root).parent
    (home / "dagster_home").mkdir()
    config = yaml.safe_load((TOP / "dagster_home" / "dagster.yaml").read_text())
    config["concurrency"] = {"runs": {"max_concurrent_runs": 6}}
    (home / "dagster_home" / "dagster.yaml").write_text(yaml.safe_dump(config))
    with dagster_page(home, PROJECT, **variables) as opened:
        yield opened


def launch(page: DagsterPage, asset: str, key: str = "") -> str:
    """A run as the launchpad and the Dagster UI start it for one partition."""
    return page.run("tiny", asset, key=key, location=PROJECT.name)


def committed_at(dataset: Dataset, asset: str, keys: Sequence[str]) -> dict[str, int]:
    """When the manifests of these partitions were put, in ns."""
    paths = [Store.of(dataset).local_path(manifest_path(asset, key)) for key in keys]
    return {path.stem: path.stat().st_mtime_ns for path in paths if path is not None and path.exists()}


def complete(dataset: Dataset, asset: str) -> list[str]:
    return [state.key for state in DatasetStatus(dataset).states(asset) if state.state == "complete"]


def forget(dataset: Dataset, asset: str, keys: Sequence[str]) -> None:
    """Take the manifests of these partitions away: they are missing."""
    for key in keys:
        path = Store.of(dataset).local_path(manifest_path(asset, key))
        assert path is not None
        path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def begun(page: DagsterPage, tiny: Dataset) -> None:
    """Build the partitions that the tests without the marker `browser` build, except those that exist."""
    wanted = ((DEDUP_PARQUET, ("00", "01")), (IMAGE_SHARDS, ("00000", SENSOR_SHARD)), (CLIP_EMBEDDINGS, ("0",)))
    if not complete(tiny, RAW_CSV):
        assert page.wait_for_run(launch(page, RAW_CSV), 120) == "SUCCESS"
    for asset, keys in wanted:
        missing = [key for key in keys if key not in complete(tiny, asset)]
        runs = [launch(page, asset, key) for key in missing]
        assert [page.wait_for_run(run, 240) for run in runs] == ["SUCCESS"] * len(runs)


def test_the_launchpad_builds_one_partition_of_each_stage(page: DagsterPage, tiny: Dataset) -> None:
    assert page.wait_for_run(launch(page, RAW_CSV), 120) == "SUCCESS"
    runs = [launch(page, DEDUP_PARQUET, key) for key in ("01", "00")]
    assert [page.wait_for_run(run, 240) for run in runs] == ["SUCCESS", "SUCCESS"]
    assert complete(tiny, DEDUP_PARQUET) == ["00", "01"]
    assert page.wait_for_run(launch(page, IMAGE_SHARDS, "00000"), 120) == "SUCCESS"
    assert complete(tiny, IMAGE_SHARDS) == ["00000"]


def test_a_sensor_materializes_the_requested_partition_and_an_embedding_file_follows(
    page: DagsterPage, tiny: Dataset
) -> None:
    selector = {"repositoryLocationName": PROJECT.name, "repositoryName": "__repository__"}
    page.graphql(START_SENSOR, selector=selector | {"sensorName": "one_shard_sensor"})
    wait_until(lambda: SENSOR_SHARD in complete(tiny, IMAGE_SHARDS), 120)
    assert complete(tiny, IMAGE_SHARDS) == ["00000", SENSOR_SHARD]
    assert page.wait_for_run(launch(page, CLIP_EMBEDDINGS, "0"), 120) == "SUCCESS"
    assert complete(tiny, CLIP_EMBEDDINGS) == ["0"]


@pytest.mark.browser
@pytest.mark.usefixtures("begun")
def test_a_schedule_materializes_the_requested_partition(page: DagsterPage, tiny: Dataset) -> None:
    selector = {"repositoryLocationName": PROJECT.name, "repositoryName": "__repository__"}
    started = page.graphql(START_SCHEDULE, selector=selector | {"scheduleName": "one_shard_schedule"})
    wait_until(lambda: SCHEDULE_SHARD in complete(tiny, IMAGE_SHARDS), 180)
    page.graphql(STOP_SCHEDULE, id=started["startSchedule"]["scheduleState"]["id"])
    assert complete(tiny, IMAGE_SHARDS) == ["00000", SENSOR_SHARD, SCHEDULE_SHARD]


@pytest.mark.browser
@pytest.mark.usefixtures("begun")
def test_a_backfill_of_all_partitions_builds_all(page: DagsterPage, tiny: Dataset) -> None:
    for asset in (DEDUP_PARQUET, IMAGE_SHARDS):
        forget(tiny, asset, ["00"] if asset == DEDUP_PARQUET else ["00000"])
        assert page.wait_for_backfill(page.backfill("tiny", [asset]), 300) == "COMPLETED_SUCCESS"
        assert complete(tiny, asset) == partition_keys(tiny, asset)


@pytest.mark.browser
@pytest.mark.usefixtures("begun")
def test_automation_builds_missing_embedding_files(page: DagsterPage, tiny: Dataset) -> None:
    """File 0 exists already; only file 2 is requested, and 1 is built before."""
    assert page.wait_for_run(launch(page, CLIP_EMBEDDINGS, "1"), 120) == "SUCCESS"
    before = committed_at(tiny, CLIP_EMBEDDINGS, ["0", "1"])
    selector = {"repositoryLocationName": PROJECT.name, "repositoryName": "__repository__"}
    page.graphql(START_SENSOR, selector=selector | {"sensorName": "automation"})
    wait_until(lambda: complete(tiny, CLIP_EMBEDDINGS) == ["0", "1", "2"], 180)
    assert committed_at(tiny, CLIP_EMBEDDINGS, ["0", "1"]) == before


@pytest.mark.browser
@pytest.mark.usefixtures("begun")
@pytest.mark.parametrize("asset", PARTITIONED)
def test_a_backfill_builds_one_or_several_named_partitions(page: DagsterPage, tiny: Dataset, asset: str) -> None:
    keys = partition_keys(tiny, asset)
    for named in ([keys[1]], keys[::2]):
        forget(tiny, asset, keys)
        assert page.wait_for_backfill(page.backfill("tiny", [asset], named), 300) == "COMPLETED_SUCCESS"
        assert complete(tiny, asset) == named
    assert page.wait_for_backfill(page.backfill("tiny", [asset]), 300) == "COMPLETED_SUCCESS"
    assert complete(tiny, asset) == keys


@pytest.mark.browser
@pytest.mark.usefixtures("begun")
@pytest.mark.parametrize("asset", PARTITIONED)
def test_the_dagster_command_builds_one_partition(
    page: DagsterPage, tiny: Dataset, variables: dict[str, str], asset: str
) -> None:
    key = partition_keys(tiny, asset)[-1]
    forget(tiny, asset, [key])
    command = ["asset", "materialize", "-f", PROJECT, "--select", f"key:tiny/{asset}", "--partition", key]
    done = subprocess.run(
        [BIN / "dagster", *command],
        capture_output=True,
        text=True,
        cwd=TOP,
        env=environment(Path(tiny.root).parent) | variables,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert complete(tiny, asset) == partition_keys(tiny, asset)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    ARTIFACTS.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_FLAGS)
        yield opened
        opened.close()


@pytest.mark.browser
@pytest.mark.usefixtures("begun")
@pytest.mark.parametrize("asset", PARTITIONED)
def test_one_partition_is_materialized_by_clicking(
    page: DagsterPage, tiny: Dataset, browser: Browser, asset: str
) -> None:
    keys = partition_keys(tiny, asset)
    wanted = keys[1]
    forget(tiny, asset, [wanted])
    with browser.new_context(viewport={"width": 1500, "height": 950}) as context:
        tab = context.new_page()
        tab.set_default_timeout(TIMEOUT_MS)
        tab.goto(f"{page.url}/assets/tiny/{asset}?view=partitions")
        expect(tab.get_by_text(f"{len(keys)} Partitions Selected", exact=True)).to_be_visible(timeout=TIMEOUT_MS)
        tab.get_by_role("button", name="Materialize").first.click()
        tab.get_by_role("button", name="Custom").click()
        select_one(tab, keys, wanted)
        shoot(tab, f"launch-one-{asset}")
        tab.get_by_role("button", name="Launch 1 run").click()
        # The button's text changes at once, and a tab that is closed now takes its request with it.
        expect(tab.get_by_role("dialog")).to_have_count(0, timeout=TIMEOUT_MS)
    wait_until(lambda: wanted in complete(tiny, asset), 180)
    run = page.graphql(RUNS)["runsOrError"]["results"][0]
    assert {"key": "dagster/partition", "value": wanted} in run["tags"]
    assert page.wait_for_run(run["runId"], 60) == "SUCCESS"


def select_one(tab: Page, keys: list[str], wanted: str) -> None:
    """Leave one partition selected in the dialog, which shows few partitions as tags and more as a number."""
    many = tab.get_by_text(f"{len(keys)} partitions selected", exact=True)
    tag = tab.get_by_role("dialog").locator(f"div[title='{keys[0]}'] + div [aria-label='close']")
    expect(many.or_(tag)).to_be_visible(timeout=TIMEOUT_MS)
    if many.is_visible():
        many.click()
        tab.get_by_role("menuitem", name=f"Select all ({len(keys)})").click()
        tab.get_by_role("menuitem", name=wanted).click()
        tab.keyboard.press("Escape")
        return
    for key in keys:
        if key != wanted:
            tab.get_by_role("dialog").locator(f"div[title='{key}'] + div [aria-label='close']").click()
