"""The Dagster page in Chromium: the lineage is the documentation, and a partition range is materialized by clicking.

`make test-browser`; screenshots are left in `artifacts/` to be looked at.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from laion_assets.datasets import SAMPLE
from laion_assets.freshness import Freshness
from laion_assets.handles import STAGES, STATISTICS
from laion_assets_tests.end_to_end.conftest import TOP, Demo
from laion_assets_tests.end_to_end.dagster_page import DagsterPage, dagster_page, wait_until

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
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, demo: Demo) -> Path:
    """A copy of the demo's files and of its Dagster instance."""
    folder = tmp_path_factory.mktemp("browser")
    shutil.copytree(demo.home / "data", folder / "data")
    shutil.copytree(demo.home / "dagster_home", folder / "dagster_home")
    return folder


@pytest.fixture(scope="module")
def dagster(home: Path) -> Iterator[DagsterPage]:
    with dagster_page(home) as opened:
        yield opened


@pytest.fixture
def page(dagster: DagsterPage) -> Iterator[Page]:
    ARTIFACTS.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_FLAGS)
        opened = browser.new_page(viewport={"width": 1500, "height": 950})
        opened.set_default_timeout(PATIENCE_MS)
        yield opened
        browser.close()


def shoot(page: Page, name: str) -> None:
    page.wait_for_timeout(1_500)
    page.screenshot(path=ARTIFACTS / f"{name}.png")


@pytest.mark.parametrize("name", ["sample", "laion400m"])
def test_the_lineage_shows_the_five_assets_in_their_order(dagster: DagsterPage, page: Page, name: str) -> None:
    page.goto(f"{dagster.url}/locations/__repository__@{name}/asset-groups/{name}/lineage")
    places = []
    for asset in STAGES:
        node = page.get_by_text(asset, exact=True).first
        expect(node).to_be_visible(timeout=PATIENCE_MS)
        box = node.bounding_box()
        assert box is not None
        places.append(box["x"])
    shoot(page, f"lineage-{name}")
    assert places == sorted(places)


@pytest.mark.parametrize("asset", [*STAGES, *STATISTICS])
def test_an_asset_s_page_explains_its_stage(dagster: DagsterPage, page: Page, asset: str) -> None:
    page.goto(f"{dagster.url}/assets/laion400m/{asset}?view=overview")
    expect(page.get_by_text("Description").first).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_text("into", exact=True).first).to_be_visible(timeout=PATIENCE_MS)
    shoot(page, f"asset-{asset}")


def test_all_41455_partitions_are_listed(dagster: DagsterPage, page: Page) -> None:
    page.goto(f"{dagster.url}/assets/laion400m/image_shards?view=partitions")
    expect(page.get_by_text("41,455 Partitions Selected")).to_be_visible(timeout=PATIENCE_MS)
    shoot(page, "partitions-laion400m")


def test_a_shard_shows_its_counts_reasons_and_pictures(dagster: DagsterPage, page: Page) -> None:
    page.goto(f"{dagster.url}/assets/sample/image_shards?view=partitions&partition=00003")
    expect(page.get_by_text("dropped_by_reason")).to_be_visible(timeout=PATIENCE_MS)
    shoot(page, "shard")
    page.locator("tr", has_text="pictures").get_by_text("[Show Markdown]").click()
    picture = page.locator("img[src^='data:image/jpeg']")
    expect(picture).to_be_visible(timeout=PATIENCE_MS)
    assert picture.evaluate("image => image.naturalWidth") > 100
    shoot(page, "shard-pictures")


def test_statistics_show_their_plots_and_the_report_needs_no_network(
    dagster: DagsterPage, page: Page, home: Path
) -> None:
    page.goto(f"{dagster.url}/assets/sample/dataset_statistics")
    page.locator("tr", has_text="plots").get_by_text("[Show Markdown]").click()
    plot = page.locator("img[src^='data:image/svg']").first
    expect(plot).to_be_visible(timeout=PATIENCE_MS)
    assert plot.evaluate("image => image.naturalWidth") > 300
    shoot(page, "statistics-plots")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    report = home / "data" / "sample" / "statistics" / "report.html"
    page.goto(report.as_uri())
    assert page.locator("svg").count() == 11
    assert asked == [report.as_uri()]
    page.screenshot(path=ARTIFACTS / "report.png", full_page=True)


def test_an_embedding_partition_shows_example_rows(dagster: DagsterPage, page: Page) -> None:
    page.goto(f"{dagster.url}/assets/sample/clip_embeddings?view=partitions&partition=2")
    expect(page.get_by_text("example_rows")).to_be_visible(timeout=PATIENCE_MS)
    shoot(page, "embedding")


def test_a_partition_range_is_materialized_by_clicking(dagster: DagsterPage, page: Page, home: Path) -> None:
    dataset = replace(SAMPLE, root=str(home / "data"))
    wanted = [3, 4, 5]
    for shard in wanted:
        (home / "data" / "sample" / "manifests" / "image_shards" / f"{shard:05d}.json").unlink()
    page.goto(f"{dagster.url}/assets/sample/image_shards?view=partitions")
    expect(page.get_by_text("24 Partitions Selected", exact=True)).to_be_visible(timeout=PATIENCE_MS)
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
    wait_until(
        lambda: all(Freshness(dataset).state("image_shards", shard).state == "complete" for shard in wanted), 240
    )
    page.goto(f"{dagster.url}/runs")
    expect(page.get_by_text("In progress (0)")).to_be_visible(timeout=2 * PATIENCE_MS)
    expect(page.get_by_text("Success").first).to_be_visible(timeout=PATIENCE_MS)
    shoot(page, "runs")
