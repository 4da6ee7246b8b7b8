"""Fixtures of the browser tests of the search page: Chromium, and a running service with the demo's index.

`make test-browser`; screenshots are left in `artifacts/` to be looked at. Each test also fails if the page sends a
request to another host, logs an error, opens a dialog, or violates its Content-Security-Policy.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from laion_assets.dataset.built_in import SAMPLE
from laion_assets_tests.end_to_end.conftest import TOP, Demo, demo
from laion_assets_tests.server.page.search_page import SearchPage
from laion_assets_tests.server.running import Client, running_service

__all__ = ["browser", "demo", "opened", "reports", "site"]

ARTIFACTS = TOP / "artifacts"
MAX_IMAGE_BYTES = 60_000
"""Small, so that the page has to downscale what a camera makes."""
DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
SCENE = "a small red circle left of a large blue square"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]

Opened = Callable[..., SearchPage]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. Not for the session: Playwright allows one instance at a time."""
    ARTIFACTS.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports") / "reports.jsonl"


@pytest.fixture(scope="session")
def site(demo: Demo, reports: Path) -> Iterator[Client]:
    """A service over the demo, with links to a Dagster UI."""
    search = replace(
        SAMPLE.search,
        max_image_bytes=MAX_IMAGE_BYTES,
        report_file=str(reports),
        dagster_url="http://127.0.0.1:3000",
    )
    with running_service(replace(SAMPLE, root=str(demo.root), search=search)) as running:
        yield running


@pytest.fixture
def opened(browser: Browser, site: Client) -> Iterator[Opened]:
    """Open the page in a new browser context: `opened(query, viewport=..., color_scheme=...)`."""
    pages: list[SearchPage] = []

    def open_page(query: str = "", expected: tuple[str, ...] = (), **options: object) -> SearchPage:
        context = browser.new_context(**{"viewport": DESKTOP, "accept_downloads": True, **options})
        page = SearchPage(context.new_page(), f"http://127.0.0.1:{site.port}", expected=expected)
        pages.append(page)
        return page.open(query)

    yield open_page
    try:
        for page in pages:
            page.check()
    finally:
        for page in pages:
            page.page.context.close()
