"""Hostile texts in a real Dagster UI and in the report, in Chromium: no request is sent and no script runs.

`make test-browser`.
"""

import json
import shutil
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SourceError
from laion_assets.orchestration.checks.row_counts import row_count_checks
from laion_assets.orchestration.declaration import run_logger
from laion_assets.orchestration.reporting import materialization
from laion_assets.orchestration.resources.clip_model import ClipModelResource
from laion_assets.orchestration.stage_parts import load_io_manager
from laion_assets.stages import registry
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.raw_csv.handle import RAW_CSV
from laion_assets.stages.registry import STAGES, list_stages
from laion_assets.stages.statistics.build import REPORT
from laion_assets.store.store import Store
from laion_assets_tests.end_to_end.conftest import BIN, TOP, environment
from laion_assets_tests.end_to_end.dagster_ui import wait_until
from laion_assets_tests.end_to_end.test_browser import ARTIFACTS, CHROMIUM_FLAGS, TIMEOUT_MS, shoot
from laion_assets_tests.hostile_dataset import hostile_manifest, publish_hostile
from laion_assets_tests.hostile_text import HOSTILE, LEAK, LIMIT

pytestmark = pytest.mark.browser

HOSTILE_ASSETS = sorted(stage.name for stage in STAGES)
CONTROL = "control"
DEFINITIONS = """
from dataclasses import replace
import dagster as dg
from laion_assets.dataset.built_in import SAMPLE
from laion_assets.definitions import build_definitions
from laion_assets.dataset.layout import Layout

dataset = replace(SAMPLE, layout=Layout(1, 1, 1, 250), root={root!r})
defs = dg.Definitions.merge(build_definitions(dataset), dg.Definitions(assets=[dg.AssetSpec("control")]))
"""


@dataclass
class Watched:
    """Requests of a page to other servers, the dialogs that it opened, and the mutations that it sent."""

    page: Page
    own: str
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self._note(request.method, request.url, request.post_data or ""))
        self.page.on("dialog", lambda dialog: (self.asked.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("popup", lambda opened: self.asked.append(f"popup {opened.url}"))

    def _note(self, method: str, url: str, body: str) -> None:
        foreign = not url.startswith((self.own, "data:", "blob:"))
        if foreign or LEAK in url or "query=" in url or (method == "POST" and '"query":"mutation' in body):
            self.asked.append(f"{method} {url}")


@dataclass(frozen=True)
class Web:
    """The UI's address, and the requests to the third party's server."""

    url: str
    leaked: list[str]
    leak_port: int
    run_id: str
    report: Path


def events(dataset: Dataset, instance: dg.DagsterInstance) -> str:
    """Put hostile metadata, results of checks, log lines and an error into an instance. Returns the failed run's id."""
    for stage in STAGES:
        manager = load_io_manager(stage, dataset)
        found = materialization(manager, 0, hostile_manifest(dataset, stage.name), True)
        instance.report_runless_asset_event(found)
    raw = dg.MetadataValue.md("\n\n".join(HOSTILE[:2]))
    instance.report_runless_asset_event(dg.AssetMaterialization(CONTROL, metadata={"raw": raw}))
    (check,) = [
        one
        for one in row_count_checks(dataset, list_stages(dataset))
        if next(iter(one.check_keys)).asset_key.path[-1] == RAW_CSV
    ]

    @dg.asset(key=[dataset.name, "hostile_run"])
    def hostile_run(context: dg.AssetExecutionContext) -> None:
        for text in HOSTILE:
            run_logger(context)(text)
        raise SourceError(" ".join(HOSTILE))

    clip = ClipModelResource(model="", device="cpu", precision="fp32")
    source = dg.AssetSpec([dataset.name, RAW_CSV])
    checks = dg.AssetSelection.checks(check)
    dg.materialize([source, check], selection=checks, resources={f"{dataset.name}_clip_model": clip}, instance=instance)
    return dg.materialize([hostile_run], instance=instance, raise_on_error=False).run_id


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """A web server over an instance full of hostile texts, and the third party's server."""
    home = tmp_path_factory.mktemp("hostile")
    (home / "dagster_home").mkdir()
    shutil.copy(TOP / "dagster_home" / "dagster.yaml", home / "dagster_home")
    leaked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _recorder(leaked))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patched:

        def problems(*_: object) -> Iterator[str]:
            yield from HOSTILE[:2]
            raise SourceError(HOSTILE[0])

        patched.setattr(registry, "STAGES", [replace(STAGES[0], invariant=HOSTILE[0]), *STAGES[1:]])
        patched.setattr("laion_assets.stages.raw_csv.check.find_problems", problems)
        dataset = publish_hostile(replace(SAMPLE, root=str(home / "data")))
        with dg.DagsterInstance.from_config(str(home / "dagster_home")) as instance:
            run_id = events(dataset, instance)
    (home / "hostile.py").write_text(DEFINITIONS.format(root=str(home / "data")))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    log = (home / "webserver.log").open("wb")
    process = subprocess.Popen(
        [BIN / "dagster-webserver", "-h", "127.0.0.1", "-p", url.rpartition(":")[2], "-f", home / "hostile.py"],
        cwd=TOP,
        env=environment(home),
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:

        def ready() -> bool:
            assert process.poll() is None, (home / "webserver.log").read_text()
            try:
                urllib.request.urlopen(f"{url}/server_info", timeout=5)
            except OSError:
                return False
            return True

        wait_until(ready, 120)
        yield Web(url, leaked, server.server_port, run_id, Path(Store.of(dataset).url) / REPORT)
    finally:
        process.terminate()
        process.wait(30)
        log.close()
        server.shutdown()
        server.server_close()


def _recorder(leaked: list[str]) -> type[BaseHTTPRequestHandler]:
    class Recorder(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            leaked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Recorder


@pytest.fixture(scope="module")
def browser(web: Web) -> Iterator[Browser]:
    """Chromium, in which the third party's host leads to its server."""
    ARTIFACTS.mkdir(exist_ok=True)
    rules = f"--host-resolver-rules=MAP *.{LEAK} 127.0.0.1:{web.leak_port}, MAP {LEAK} 127.0.0.1:{web.leak_port}"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=[*CHROMIUM_FLAGS, rules])
        yield opened
        opened.close()


@pytest.fixture
def watched(browser: Browser, web: Web) -> Iterator[Watched]:
    web.leaked.clear()
    with browser.new_context(viewport={"width": 1500, "height": 1400}) as context:
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        yield Watched(page, web.url)


def open_everything(page: Page) -> None:
    """Open all collapsed parts of the page. Dialogs stay open, one above the other."""
    for words in ("[Show Markdown]", "[Show JSON]", "Show schema", "Show more", "View full message"):
        for found in page.get_by_text(words).all()[:3]:
            found.dispatch_event("click")
            page.wait_for_timeout(700)


def limits(web: Web) -> str:
    """The concurrency limits that the instance has."""
    body = json.dumps({"query": "{ instance { concurrencyLimits { concurrencyKey limit } } }"}).encode()
    request = urllib.request.Request(f"{web.url}/graphql", body, {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=30).read().decode()


def assert_nothing_happened(watched: Watched, web: Web) -> None:
    watched.page.wait_for_timeout(1_000)
    assert watched.asked == []
    assert web.leaked == []
    assert LIMIT not in limits(web)


def test_markup_in_metadata_would_be_noticed(watched: Watched, web: Web) -> None:
    for view in ("overview", "events"):
        watched.page.goto(f"{web.url}/assets/{CONTROL}?view={view}")
        watched.page.wait_for_timeout(5_000)
        open_everything(watched.page)
    shoot(watched.page, "hostile-control")
    assert web.leaked
    assert any(LEAK in asked for asked in watched.asked)


@pytest.mark.parametrize("asset", HOSTILE_ASSETS)
def test_an_asset_s_page_shows_hostile_texts_as_text(watched: Watched, web: Web, asset: str) -> None:
    page = watched.page
    key = f"{SAMPLE.name}/{asset}"
    partition = f"&partition={hostile_key(asset)}"
    for view in ("overview", "events", f"partitions{partition}", "checks"):
        page.goto(f"{web.url}/assets/{key}?view={view}")
        page.wait_for_timeout(2_500)
        open_everything(page)
    page.goto(f"{web.url}/assets/{key}?view=events")
    expect(page.get_by_text(HOSTILE[0]).first).to_be_visible(timeout=TIMEOUT_MS)
    shoot(page, f"hostile-{asset}")
    assert_nothing_happened(watched, web)


def hostile_key(asset: str) -> str:
    return "00000" if asset == IMAGE_SHARDS else "0"


def test_the_result_of_a_check_shows_hostile_texts_as_text(watched: Watched, web: Web) -> None:
    page = watched.page
    page.goto(f"{web.url}/assets/{SAMPLE.name}/{RAW_CSV}?view=checks&checkDetail=row_counts")
    page.wait_for_timeout(8_000)
    shoot(page, "hostile-check")
    expect(page.get_by_text(HOSTILE[1]).first).to_be_visible(timeout=TIMEOUT_MS // 3)
    open_everything(page)
    assert_nothing_happened(watched, web)


def test_the_log_and_the_error_of_a_run_show_hostile_texts_as_text(watched: Watched, web: Web) -> None:
    page = watched.page
    page.goto(f"{web.url}/runs/{web.run_id}")
    expect(page.get_by_text(HOSTILE[0]).first).to_be_visible(timeout=TIMEOUT_MS)
    open_everything(page)
    shoot(page, "hostile-run")
    assert_nothing_happened(watched, web)


def test_the_report_shows_hostile_texts_as_text(watched: Watched, web: Web) -> None:
    page = watched.page
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    watched.own = web.report.as_uri()
    page.goto(web.report.as_uri())
    for summary in page.locator("summary").all():
        summary.click()
    expect(page.get_by_text(HOSTILE[6], exact=True).first).to_be_visible()
    assert page.locator("a, script, iframe, object, embed, form").count() == 0
    page.screenshot(path=ARTIFACTS / "hostile-report.png", full_page=True)
    assert_nothing_happened(watched, web)
    assert refused == [], "our content satisfies the page's policy"
    page.evaluate("document.body.appendChild(document.createElement('img')).src = 'http://leak.test/probe.png'")
    page.wait_for_timeout(1_000)
    assert web.leaked == [], "the policy blocks requests of injected content"
    assert any("Content Security Policy" in text for text in refused)
