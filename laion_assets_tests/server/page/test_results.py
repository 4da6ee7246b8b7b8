"""Results on the search page: the grid, an opened result, reports and exports."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from laion_assets_tests.server.page.fixtures import SCENE, Opened
from laion_assets_tests.server.running import Client

pytestmark = pytest.mark.browser


def test_the_grid_loads_more_without_moving_anything(opened: Opened) -> None:
    page = opened()
    page.search("a circle")
    for _ in range(12):
        page.page.mouse.wheel(0, 1_500)
        page.page.wait_for_timeout(250)
    page.settle()
    assert page.cells.count() > 150
    assert len(set(page.images())) == page.cells.count()
    assert page.page.evaluate("shift") < 0.01
    shapes = page.page.evaluate(
        """() => [...document.querySelectorAll(".cell .frame")].slice(0, 40).map((frame) => {
          const box = frame.getBoundingClientRect();
          return [box.width / box.height, Number(getComputedStyle(frame).getPropertyValue("--ratio"))];
        })"""
    )
    for drawn, wanted in shapes:
        assert drawn == pytest.approx(wanted, rel=0.03)


def test_a_result_opens_to_its_provenance(opened: Opened, site: Client) -> None:
    page = opened()
    page.search(SCENE)
    page.wait_for_images()
    address = page.images()[1]
    result, uid = re.fullmatch(r"images/sample/(\d+)/([0-9a-f]{32})\.\w+", address).groups()  # type: ignore[union-attr]
    page.cells.nth(1).locator(".open").click()
    detail = page.page.locator("#detail")
    expect(detail.locator(".stages")).to_be_visible()
    page.wait_for_images("#detail img")
    row = site.get(f"/api/results/sample/{result}").json
    for name in ("source_file", "shard", "key", "embedding_file", "embedding_row", "index_id", "index_version"):
        expect(detail.locator(".stages")).to_contain_text(str(row["provenance"][name]))
    expect(detail.locator(".stages")).to_contain_text(uid)
    expect(detail.locator(".stages")).to_contain_text("success")
    links = [link.get_attribute("href") for link in detail.locator(".dagster").all()]
    assert links == [link["url"] for link in row["dagster_links"]]
    source = detail.locator("a.url")
    assert source.get_attribute("href") == row["url"]
    assert {"noreferrer", "noopener"} <= set((source.get_attribute("rel") or "").split())
    assert f"result={result}" in page.page.url
    detail.get_by_text("All columns").click()
    assert detail.locator(".columns-table tr").count() == len(row["metadata"])
    page.page.keyboard.press("ArrowRight")
    expect(detail.locator(".detail-id")).not_to_have_text(f"Result {result}")
    page.page.go_back()
    expect(detail).to_be_hidden()
    assert "result=" not in page.page.url


def test_more_like_this_in_an_opened_result_closes_it(opened: Opened) -> None:
    page = opened()
    page.search(SCENE)
    wanted = page.images()[2]
    page.cells.nth(2).locator(".open").click()
    with page.page.expect_response("**/api/search"):
        page.page.click("#more-like-this")
    page.settle()
    expect(page.page.locator("#detail")).to_be_hidden()
    assert page.images()[0] == wanted
    page.page.go_back()
    expect(page.page.locator(".chip")).to_have_count(0)
    assert page.page.input_value("#text") == SCENE


def test_the_uid_is_copied(opened: Opened) -> None:
    page = opened(permissions=["clipboard-read", "clipboard-write"])
    page.search("a cross")
    uid = page.images()[0].split("/")[-1].partition(".")[0]
    page.cells.first.locator(".open").click()
    page.page.click("#copy-uid")
    expect(page.page.locator("dialog .toast")).to_have_text("Uid copied")
    assert page.page.evaluate("navigator.clipboard.readText()") == uid


def test_a_report_reaches_the_operator(opened: Opened, reports: Path) -> None:
    page = opened()
    page.search("a cross")
    uid = page.images()[0].split("/")[-1].partition(".")[0]
    page.cells.first.locator(".open").click()
    page.page.get_by_text("Report this image").click()
    page.page.select_option("#report-reason", "Personal data")
    page.page.fill("#report-note", "my face")
    page.page.get_by_role("button", name="Send the report").click()
    expect(page.page.locator(".report")).to_contain_text("The operator of this server has the report")
    written = json.loads(reports.read_text().splitlines()[-1])
    assert (written["dataset"], written["uid"], written["reason"]) == ("sample", uid, "Personal data: my face")


@pytest.mark.parametrize("format", ["csv", "json", "parquet", "npy", "webdataset"])
def test_an_export_is_downloaded(opened: Opened, format: str) -> None:
    page = opened()
    page.search("a yellow triangle")
    uids = [address.split("/")[-1].partition(".")[0] for address in page.images()[:10]]
    page.page.click("#export-button")
    page.page.fill("#export-rows", "10")
    with page.page.expect_download() as download:
        page.page.click(f"[data-format={format}]")
    content = Path(download.value.path()).read_bytes()
    assert len(content) > 100
    if format in ("csv", "json", "webdataset"):
        assert all(uid.encode() in content for uid in uids)
    expect(page.page.locator("#toasts")).to_contain_text(download.value.suggested_filename)


def test_selected_results_are_exported(opened: Opened) -> None:
    page = opened()
    page.search("a yellow triangle")
    uids = [page.images()[at].split("/")[-1].partition(".")[0] for at in (0, 3)]
    for at in (0, 3):
        page.cells.nth(at).hover()
        page.cells.nth(at).locator(".select-box").click()
    expect(page.page.locator("#selected-count")).to_have_text("2")
    page.page.click("#export-button")
    with page.page.expect_download() as download:
        page.page.click("[data-format=csv]")
    content = Path(download.value.path()).read_text()
    assert all(uid in content for uid in uids)
    assert len(content.splitlines()) == 3
