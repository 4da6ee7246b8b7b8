"""Text from strangers on the search page, in Chromium: captions, URLs, licences and addresses stay text."""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import quote

import numpy as np
import pytest
from playwright.sync_api import Browser, expect
from safetensors.numpy import save_file

from laion_assets.dataset.dataset import SAMPLE_MODEL
from laion_assets.models.loading import load_model
from laion_assets.plain_text import one_line
from laion_assets.search.settings import SearchSettings
from laion_assets.stages.clip_embeddings.build import build_embedding_file
from laion_assets.stages.knn_indices.build import build_indices
from laion_assets.store.store import Store
from laion_assets_tests.hostile_text import HOSTILE, INVISIBLE
from laion_assets_tests.server.page.fixtures import DESKTOP
from laion_assets_tests.server.page.search_page import SearchPage
from laion_assets_tests.server.running import Client, running_service
from laion_assets_tests.stages.clip_embeddings import small_dataset

pytestmark = pytest.mark.browser

URLS = (
    "javascript:alert(1)",
    "JaVaScRiPt://leak.test/%0aalert(1)",
    "data:text/html,<script>alert(1)</script>",
    "http://user:password@leak.test/a.jpg",
    "http://leak.test/\u202egnp.exe",
    "http://leak.test/\"onmouseover='alert(1)'",
    "file:///etc/passwd",
    "//leak.test/a.jpg",
    "http://leak.test/<script>alert(1)</script>",
)
JOINERS = dict.fromkeys(map(ord, "\u200c\u200d"))
"""Emoji and some scripts need them, so captions keep them."""


def hostile_fields(shard: int, row: int, status: str = "success") -> dict[str, object]:
    """The fields of a row whose texts are all hostile."""
    fields = usual_fields(shard, row, status)
    caption, url = HOSTILE[row % len(HOSTILE)], URLS[row % len(URLS)]
    uid = hashlib.md5(f"{url}\0{caption}".encode()).hexdigest()
    return {**fields, "caption": caption, "url": url, "uid": uid, "LICENSE": caption, "NSFW": "UNLIKELY"}


usual_fields = small_dataset.sample_fields


@pytest.fixture(scope="module")
def hostile_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A service over hostile rows, with a hostile description and example query."""
    folder = tmp_path_factory.mktemp("hostile")
    weights = folder / "nothing.safetensors"  # every score is 0.5, which hides nothing
    save_file({"a.weight": np.zeros((1, 128), np.float32)}, weights, {"name": HOSTILE[0]})
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    dataset = replace(
        small_dataset.small_dataset(folder),
        model=SAMPLE_MODEL,
        description=HOSTILE[5],
        search=SearchSettings(
            example_queries=(HOSTILE[6], HOSTILE[0]), safety_model=str(weights), safety_model_sha256=digest
        ),
    )
    model = load_model(SAMPLE_MODEL, device="cpu")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(small_dataset, "sample_fields", hostile_fields)
        small_dataset.commit_shard(dataset, 0, len(HOSTILE))
        for shard in range(1, small_dataset.LAYOUT.shards):
            small_dataset.commit_shard(dataset, shard, 0)
    for embedding in range(small_dataset.LAYOUT.embedding_files):
        build_embedding_file(dataset, Store.of(dataset), embedding, model, lambda line: None)
    build_indices(dataset, Store.of(dataset), lambda line: None)
    with running_service(dataset) as running:
        yield running


@pytest.fixture
def visit(browser: Browser, hostile_site: Client) -> Iterator[Callable[[str], SearchPage]]:
    """Open an address of the hostile site, and check at the end that nothing of it ran."""
    context = browser.new_context(viewport=DESKTOP)
    page = SearchPage(context.new_page(), f"http://127.0.0.1:{hostile_site.port}")
    yield page.open
    try:
        page.check()
        assert (
            page.page.evaluate("document.querySelectorAll('#grid script, #detail script, iframe, [onerror]').length")
            == 0
        )
    finally:
        context.close()


def links(page: SearchPage) -> list[str]:
    """Where the links of results lead."""
    return page.page.locator("#grid a, #detail a").evaluate_all("links => links.map((link) => link.href)")


def shown(text: str) -> str:
    """A caption as the page has to show it."""
    return one_line(re.sub("[ \t\n\v\f\r\x85\u2028\u2029]+", " ", text.translate(JOINERS)).strip())


def test_hostile_captions_are_text(visit: Callable[[str], SearchPage]) -> None:
    page = visit("?q=red&collapse=false")
    page.settle()
    expect(page.page.locator("#state")).to_contain_text("are shown")
    captions = page.page.locator(".cell .caption").evaluate_all("all => all.map((one) => one.textContent)")
    assert sorted(text.translate(JOINERS) for text in captions) == sorted(map(shown, HOSTILE))
    assert links(page) == []
    text = page.page.evaluate("document.body.innerText").translate(JOINERS).replace("\n", "").replace("\t", "")
    assert not INVISIBLE.findall(text)


def test_an_opened_result_links_web_addresses_only(visit: Callable[[str], SearchPage]) -> None:
    page = visit("?q=red&collapse=false")
    page.settle()
    seen = set()
    page.cells.first.locator(".open").click()
    for _ in range(len(HOSTILE) - 1):
        expect(page.page.locator(".columns-table")).to_be_attached()
        expect(page.page.locator("#provenance")).to_have_attribute("aria-busy", "false")
        url = page.page.locator("#detail .source .url").inner_text()
        seen.add(url)
        targets = links(page)
        assert all(target.startswith("http://leak.test/") for target in targets), targets
        assert bool(targets) == (url.startswith("http://leak.test/")), url
        page.page.keyboard.press("ArrowRight")
    assert seen == {one_line(url) for url in URLS}


@pytest.mark.parametrize("text", [HOSTILE[0], HOSTILE[5], HOSTILE[6], HOSTILE[28], "javascript:alert(1)"])
def test_a_hostile_address_is_text(visit: Callable[[str], SearchPage], text: str) -> None:
    value = quote(text)
    page = visit(f"?q={value}&plus={value}&minus={value}&domain={value}&result={value}&dataset={value}")
    expect(page.page.locator(".chip").first).to_be_visible()
    expect(page.page.locator("#notice")).to_contain_text("This server has no dataset")


def test_a_hostile_description_and_example_are_text(visit: Callable[[str], SearchPage]) -> None:
    page = visit("")
    expect(page.page.locator(".lead")).to_have_text(shown(HOSTILE[5]))
    assert page.page.locator(".example-text").all_inner_texts() == [shown(HOSTILE[6]), shown(HOSTILE[0])]
    expect(page.page.locator(".facts-line")).to_contain_text(re.compile(r"the safety model .* hides more images"))
