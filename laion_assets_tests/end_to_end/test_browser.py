"""The Dagster UI in Chromium: the lineage has documentation, and a partition range is materialized by clicking.

`make test-browser`; screenshots are left in `artifacts/` to be looked at.
"""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from laion_assets.dataset.built_in import LAION400M, SAMPLE
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.stages.registry import pipeline_names, stage_names
from laion_assets.stages.statistics.handle import DATASET_STATISTICS, IMAGE_STATISTICS
from laion_assets.stages.status import DatasetStatus
from laion_assets.stages.totals import sum_partitions
from laion_assets_tests.end_to_end.conftest import TOP, Demo, command
from laion_assets_tests.end_to_end.dagster_ui import DagsterPage, dagster_page, wait_until

PIPELINE = pipeline_names(SAMPLE)
OTHERS = [name for name in stage_names(SAMPLE) if name not in PIPELINE]

pytestmark = pytest.mark.browser

ARTIFACTS = TOP / "artifacts"
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT_MS = 60_000


SETTINGS = """
[laion400m]
source = "sample-site:"
model = "sample-clip"
"""
"""LAION-400M's whole layout over the rows of the embedded site."""
SHARDS = range(16)
"""Shards of `laion400m` that are built before the UI is opened: one in eight has a row of the site."""
BACKFILLS = "{ partitionBackfillsOrError { ... on PartitionBackfills { results { id status numPartitions } } } }"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, demo: Demo) -> Path:
    """A copy of the demo's files and of its Dagster instance, and the first shards of `laion400m`."""
    folder = tmp_path_factory.mktemp("browser")
    shutil.copytree(demo.home / "data", folder / "data")
    shutil.copytree(demo.home / "dagster_home", folder / "dagster_home")
    (folder / "laion-assets.toml").write_text(SETTINGS)
    command(folder, "materialize", "--dataset", "laion400m", "raw_csv", "dedup_parquet")
    span = f"{SHARDS[0]}..{SHARDS[-1]}"
    command(folder, "materialize", "--dataset", "laion400m", "image_shards", "--partitions", span)
    return folder


@pytest.fixture(scope="module")
def dagster(home: Path) -> Iterator[DagsterPage]:
    with dagster_page(home) as opened:
        yield opened


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    ARTIFACTS.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 1500, "height": 950}) as context:
        opened = context.new_page()
        opened.set_default_timeout(TIMEOUT_MS)
        yield opened


def shoot(page: Page, name: str) -> None:
    page.wait_for_timeout(1_500)
    page.screenshot(path=ARTIFACTS / f"{name}.png")


def metadata(page: Page, label: str) -> Locator:
    """The row of a partition's or an asset's metadata with this label."""
    return page.locator("tr").filter(has=page.get_by_text(label, exact=True)).first


@pytest.mark.parametrize("name", ["sample", "laion400m"])
def test_the_lineage_shows_the_five_assets_in_their_order(dagster: DagsterPage, page: Page, name: str) -> None:
    page.goto(f"{dagster.url}/locations/__repository__@{name}/asset-groups/{name}/lineage")
    places = []
    for asset in PIPELINE:
        node = page.get_by_text(asset, exact=True).first
        expect(node).to_be_visible(timeout=TIMEOUT_MS)
        box = node.bounding_box()
        assert box is not None
        places.append(box["x"])
    shoot(page, f"lineage-{name}")
    assert places == sorted(places)


@pytest.mark.parametrize("asset", [*PIPELINE, *OTHERS])
def test_an_asset_s_page_explains_its_stage(dagster: DagsterPage, page: Page, asset: str) -> None:
    page.goto(f"{dagster.url}/assets/laion400m/{asset}?view=overview")
    expect(page.get_by_text("Description").first).to_be_visible(timeout=TIMEOUT_MS)
    expect(page.get_by_text("Invariant", exact=True).first).to_be_visible(timeout=TIMEOUT_MS)
    shoot(page, f"asset-{asset}")


def test_all_41455_partitions_are_listed_with_materialized_and_missing_ones(dagster: DagsterPage, page: Page) -> None:
    page.goto(f"{dagster.url}/assets/laion400m/image_shards?view=partitions")
    expect(page.get_by_text("41,455 Partitions Selected")).to_be_visible(timeout=TIMEOUT_MS)
    expect(page.get_by_text(f"Materialized ({len(SHARDS)})", exact=True)).to_be_visible(timeout=TIMEOUT_MS)
    shoot(page, "partitions-laion400m")


def test_a_shard_of_laion400m_leads_to_its_rows_and_to_its_embedding_file(
    dagster: DagsterPage, page: Page, home: Path
) -> None:
    shards = ImageShards.of(replace(LAION400M, root=str(home / "data")), tuple(SHARDS))
    shard = next(shard for shard in SHARDS if shards.manifest(shard).counts.rows_in)
    page.goto(f"{dagster.url}/assets/laion400m/image_shards?view=partitions&partition={shard:05d}")
    row_group = metadata(page, "rows_from")
    expect(row_group).to_contain_text(f"row group {shard} of dedup_parquet/00.parquet", timeout=TIMEOUT_MS)
    for label in ("rows_in", "rows_out", "bytes", "images_per_s", "success_rate"):
        expect(metadata(page, label)).to_be_visible(timeout=TIMEOUT_MS)
    shoot(page, "shard-laion400m")
    for label, key, sign in (("dedup_parquet", "00", "summary"), ("clip_embeddings", "000", "000")):
        page.goto(f"{dagster.url}/assets/laion400m/image_shards?view=partitions&partition={shard:05d}")
        metadata(page, label).get_by_role("link", name=f"{label} {key}").click()
        expect(page.get_by_text(sign, exact=True).first).to_be_visible(timeout=TIMEOUT_MS)
        assert page.url.endswith(f"/assets/laion400m/{label}?view=partitions&partition={key}"), page.url
        shoot(page, f"linked-{label}")


def test_the_landing_page_shows_the_runs_of_the_command_line(dagster: DagsterPage, page: Page) -> None:
    page.goto(dagster.url)
    expect(page.get_by_text("Jobless asset materializations").first).to_be_visible(timeout=TIMEOUT_MS)
    expect(page.get_by_text("No runs")).to_have_count(0)
    shoot(page, "landing")


def test_an_overview_shows_the_totals_over_all_partitions(dagster: DagsterPage, page: Page, home: Path) -> None:
    totals = sum_partitions(replace(SAMPLE, root=str(home / "data")), "image_shards")
    page.goto(f"{dagster.url}/assets/sample/image_shards?view=overview")
    line = metadata(page, "totals")
    expect(line).to_contain_text(f"24 of 24 partitions, {totals.rows_out:,} of 5,280 rows", timeout=TIMEOUT_MS)
    expect(page.get_by_text(f"{totals.rows_out:,}", exact=True).first).to_be_visible(timeout=TIMEOUT_MS)
    shoot(page, "overview")
    line.scroll_into_view_if_needed()
    expect(metadata(page, "total_dropped_by_reason")).to_contain_text("http_404")
    shoot(page, "overview-totals")


def test_a_partition_page_starts_with_images_and_rows_and_ends_with_files(dagster: DagsterPage, page: Page) -> None:
    page.goto(f"{dagster.url}/assets/sample/image_shards?view=partitions&partition=00003")
    expect(metadata(page, "summary")).to_be_visible(timeout=TIMEOUT_MS)
    places = [
        metadata(page, label).bounding_box()
        for label in ("summary", "images", "example_rows", "dropped_by_reason", "success_rate", "rows_in", "files")
    ]
    heights = [place["y"] for place in places if place]
    assert len(heights) == len(places)
    assert heights == sorted(heights)
    shoot(page, "partition")


def test_the_indices_show_the_images_nearest_to_an_example_caption(dagster: DagsterPage, page: Page) -> None:
    page.goto(f"{dagster.url}/assets/sample/knn_indices?view=overview")
    expect(metadata(page, "example_query")).to_be_visible(timeout=TIMEOUT_MS)
    shoot(page, "knn")
    metadata(page, "example_images").get_by_text("[Show Markdown]").click()
    sheet = page.locator("img[src^='data:image/jpeg']")
    expect(sheet).to_be_visible(timeout=TIMEOUT_MS)
    assert sheet.evaluate("image => image.naturalWidth") > 600
    shoot(page, "knn-example")


def test_a_job_builds_what_is_missing_from_the_launchpad(dagster: DagsterPage, page: Page, home: Path) -> None:
    dataset = replace(SAMPLE, root=str(home / "data"))
    (home / "data" / "sample" / "manifests" / "image_shards" / "00009.json").unlink()
    page.goto(f"{dagster.url}/locations/__repository__@sample/jobs/sample_all/playground")
    page.get_by_role("button", name="Launch Run").click()
    wait_until(lambda: dagster.graphql(BACKFILLS)["partitionBackfillsOrError"]["results"], 120)
    (backfill,) = dagster.graphql(BACKFILLS)["partitionBackfillsOrError"]["results"]
    assert dagster.wait_for_backfill(backfill["id"], 300) == "COMPLETED_SUCCESS"
    assert all(state.is_complete for asset in PIPELINE for state in DatasetStatus(dataset).states(asset))
    page.goto(f"{dagster.url}/runs/b/{backfill['id']}")
    page.wait_for_timeout(4_000)
    shoot(page, "job-backfill")
    page.goto(f"{dagster.url}/automation")
    expect(page.get_by_text("sample_new_files")).to_be_visible(timeout=TIMEOUT_MS)
    expect(page.get_by_text("sample_daily")).to_be_visible(timeout=TIMEOUT_MS)
    shoot(page, "automation")


def test_a_shard_shows_its_counts_reasons_and_images(dagster: DagsterPage, page: Page) -> None:
    page.goto(f"{dagster.url}/assets/sample/image_shards?view=partitions&partition=00003")
    expect(page.get_by_text("dropped_by_reason")).to_be_visible(timeout=TIMEOUT_MS)
    shoot(page, "shard")
    metadata(page, "images").get_by_text("[Show Markdown]").click()
    image = page.locator("img[src^='data:image/jpeg']")
    expect(image).to_be_visible(timeout=TIMEOUT_MS)
    assert image.evaluate("image => image.naturalWidth") > 100
    shoot(page, "shard-images")


@pytest.mark.parametrize("asset", [DATASET_STATISTICS, IMAGE_STATISTICS])
def test_statistics_show_their_plots(dagster: DagsterPage, page: Page, asset: str) -> None:
    page.goto(f"{dagster.url}/assets/sample/{asset}")
    metadata(page, "report").get_by_text("[Show Markdown]").click()
    plot = page.locator("img[src^='data:image/svg']").first
    expect(plot).to_be_visible(timeout=TIMEOUT_MS)
    assert plot.evaluate("image => image.naturalWidth") > 300
    shoot(page, f"plots-{asset}")
    page.locator("img[src^='data:image/svg']").last.scroll_into_view_if_needed()
    shoot(page, f"plots-{asset}-last")


def test_the_search_report_shows_its_images_without_a_network(page: Page, home: Path) -> None:
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: errors.append(message.text))
    report = home / "data" / "sample" / "search_report" / "report.html"
    for width, scheme in ((1280, "light"), (390, "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.goto(report.as_uri())
        drawn = page.locator("figure img")
        assert drawn.count() == 8 * 6
        for number in range(drawn.count()):
            drawn.nth(number).scroll_into_view_if_needed()
            assert drawn.nth(number).evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.screenshot(path=ARTIFACTS / f"search-report-{width}.png", full_page=True)
    assert {url for url in asked if not url.startswith("data:")} == {report.as_uri()}
    assert errors == []


def test_the_report_needs_no_network(page: Page, home: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    report = home / "data" / "sample" / "statistics" / "report.html"
    page.goto(report.as_uri())
    assert page.locator("svg").count() == 15
    assert asked == [report.as_uri()]
    page.screenshot(path=ARTIFACTS / "report.png", full_page=True)


def test_an_embedding_partition_shows_example_rows_and_leads_to_its_shards(dagster: DagsterPage, page: Page) -> None:
    page.goto(f"{dagster.url}/assets/sample/clip_embeddings?view=partitions&partition=2")
    expect(page.get_by_text("example_rows")).to_be_visible(timeout=TIMEOUT_MS)
    shoot(page, "embedding")
    metadata(page, "image_shards").get_by_role("link").first.click()
    expect(page.get_by_text("4 Partitions Selected", exact=True)).to_be_visible(timeout=TIMEOUT_MS)
    expect(page.get_by_text("dropped_by_reason")).to_be_visible(timeout=TIMEOUT_MS)
    shoot(page, "linked-image_shards")


def test_a_stale_shard_is_reported_by_its_check_started_alone(dagster: DagsterPage, page: Page, home: Path) -> None:
    path = home / "data" / "sample" / "manifests" / "image_shards" / "00007.json"
    before = path.read_text()
    path.write_text(before.replace(json.loads(before)["settings"], "0" * 32))
    page.goto(f"{dagster.url}/assets/sample/image_shards?view=checks&checkDetail=up_to_date")
    page.get_by_role("button").filter(has_text=re.compile("^Execute$")).click()
    expect(page.get_by_text("23 complete, 1 stale of 24 partitions").first).to_be_visible(timeout=2 * TIMEOUT_MS)
    shoot(page, "check-up-to-date")
    path.write_text(before)


def test_a_partition_range_is_materialized_by_clicking_and_seen_to_finish(
    dagster: DagsterPage, page: Page, home: Path
) -> None:
    dataset = replace(SAMPLE, root=str(home / "data"))
    wanted = [3, 4, 5]
    for shard in wanted:
        (home / "data" / "sample" / "manifests" / "image_shards" / f"{shard:05d}.json").unlink()
    page.goto(f"{dagster.url}/assets/sample/image_shards?view=partitions")
    expect(page.get_by_text("24 Partitions Selected", exact=True)).to_be_visible(timeout=TIMEOUT_MS)
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_role("button", name="Custom").click()
    page.get_by_text("24 partitions selected", exact=True).click()
    page.get_by_role("menuitem", name="Select all (24)").click()
    for shard in wanted:
        page.get_by_role("menuitem", name=f"{shard:05d}").click()
    page.keyboard.press("Escape")
    shoot(page, "launch-backfill")
    page.get_by_role("button", name="Launch backfill").click()
    page.wait_for_timeout(3_000)
    shoot(page, "backfill-launched")
    (backfill, *_) = dagster.graphql(BACKFILLS)["partitionBackfillsOrError"]["results"]  # the newest
    assert backfill["numPartitions"] == 3
    page.goto(f"{dagster.url}/runs/b/{backfill['id']}")
    expect(page.get_by_text("100% completed")).to_be_visible(timeout=4 * TIMEOUT_MS)
    expect(page.get_by_text("Succeeded", exact=True)).to_have_count(2, timeout=2 * TIMEOUT_MS)  # status and column
    shoot(page, "backfill-completed")
    assert all(DatasetStatus(dataset).state("image_shards", shard).state == "complete" for shard in wanted)
    page.goto(f"{dagster.url}/runs")
    expect(page.get_by_text("In progress (0)")).to_be_visible(timeout=2 * TIMEOUT_MS)
    expect(page.get_by_text("Success").first).to_be_visible(timeout=TIMEOUT_MS)
    shoot(page, "runs")
