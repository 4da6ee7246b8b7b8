"""The search page in Chromium: queries by words, by images and by both, filters, addresses."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from laion_assets_tests.server.page.fixtures import ARTIFACTS, MAX_IMAGE_BYTES, SCENE, Opened
from laion_assets_tests.server.page.search_page import SearchPage
from laion_assets_tests.server.running import Client

pytestmark = pytest.mark.browser


def encoded(image: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


def stored(site: Client, path: str) -> str:
    """The bytes of a stored image as base64."""
    answer = site.get(f"/{path.removeprefix('/')}")
    assert answer.status == 200
    return base64.b64encode(answer.body).decode()


def test_the_start_page_shows_example_queries_that_run(opened: Opened) -> None:
    page = opened()
    expect(page.page.locator("h1")).to_contain_text("images by words")
    page.wait_for_images(".strip img")
    page.shoot(ARTIFACTS / "search-start.png")
    example = page.page.locator(".example").first
    text = example.locator(".example-text").inner_text()
    example.click()
    page.settle()
    assert page.page.input_value("#text") == text


def test_text_finds_images_that_are_drawn(opened: Opened) -> None:
    page = opened()
    page.search(SCENE)
    page.wait_for_images()
    assert "red circle" in page.captions()[0]
    assert "blue square" in page.captions()[0]
    similarities = page.similarities()
    assert similarities == sorted(similarities, reverse=True)
    assert 0.2 < similarities[0] <= 1
    first = page.cells.first
    expect(first.locator(".facts")).to_contain_text(re.compile(r"\d+ × \d+"))
    expect(first.locator(".facts")).to_contain_text(re.compile(r"UNLIKELY|no tag"))
    expect(first.locator(".facts")).to_contain_text(re.compile(r"[\w-]+\.test"))
    expect(page.page.locator("#summary")).to_contain_text("hidden by the safety rules")


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_dropped_or_pasted_image_finds_itself(opened: Opened, site: Client, kind: str) -> None:
    page = opened()
    page.search("a green star")
    wanted = page.images()[4]
    page = opened()
    page.give(kind, "star.jpg", "image/jpeg", stored(site, wanted))
    page.settle()
    assert page.images()[0] == wanted
    assert page.similarities()[0] > 0.98
    assert page.chips == ["+Uploaded image"]
    assert page.page.locator(".chip img").evaluate("image => image.naturalWidth") > 100
    page.page.click("#share-button")
    expect(page.page.locator("#share-menu")).to_contain_text("uploaded image is not part of the link")


def test_a_chosen_file_is_combined_with_words(opened: Opened, site: Client, tmp_path: Path) -> None:
    page = opened()
    page.search("a purple ring")
    path = tmp_path / "ring.jpg"
    path.write_bytes(base64.b64decode(stored(site, page.images()[0])))
    with page.page.expect_response("**/api/search"):
        page.page.set_input_files("#file", path)
    page.settle()
    assert page.chips == ["+a purple ring", "+Uploaded image"]
    assert [sorted(term) for term in page.requests[-1]["terms"]] == [["text", "weight"], ["image", "weight"]]


def test_a_large_image_is_downscaled_before_it_is_sent(opened: Opened) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (900, 1500, 3), np.uint8)
    page = opened()
    page.give("drop", "camera.png", "image/png", encoded(Image.fromarray(noise), "PNG"))
    page.settle()
    sent = base64.b64decode(page.requests[-1]["terms"][0]["image"])
    assert len(sent) <= MAX_IMAGE_BYTES
    image = Image.open(io.BytesIO(sent))
    assert image.format == "JPEG"
    assert image.width / image.height == pytest.approx(1500 / 900, abs=0.02)


def test_a_file_that_is_no_image_is_refused_with_a_sentence(opened: Opened) -> None:
    page = opened()
    page.give("drop", "notes.txt", "text/plain", base64.b64encode(b"no image").decode())
    expect(page.page.locator("#notice")).to_contain_text('"notes.txt" cannot be read as an image')
    assert all("image" not in term for request in page.requests for term in request["terms"])


def test_more_like_this_starts_from_a_result(opened: Opened) -> None:
    page = opened()
    page.search(SCENE)
    wanted = page.images()[3]
    cell = page.cells.nth(3)
    cell.hover()
    with page.page.expect_response("**/api/search"):
        cell.get_by_role("button", name="More like this").click()
    page.settle()
    assert page.images()[0] == wanted
    assert page.similarities()[0] > 0.999
    assert re.search(r"[?&]like=\d+\.[0-9a-f]{32}", page.page.url)
    assert page.page.locator(".chip img").evaluate("image => image.naturalWidth") > 100


def test_plus_and_minus_are_chips_that_can_be_turned_and_removed(opened: Opened) -> None:
    page = opened()
    page.search("a red circle -blue square")
    assert page.chips == ["+a red circle", "-blue square"]
    assert page.requests[-1]["terms"] == [{"weight": 1, "text": "a red circle"}, {"weight": -1, "text": "blue square"}]
    without = page.captions()[:20]
    with page.page.expect_response("**/api/search"):
        page.page.locator(".chip-sign").nth(1).click()
    page.settle()
    assert page.chips == ["+a red circle", "+blue square"]
    with_square = page.captions()[:20]
    assert sum("blue square" in text for text in with_square) > sum("blue square" in text for text in without)
    with page.page.expect_response("**/api/search"):
        page.page.locator(".chip-remove").nth(1).click()
    page.settle()
    assert page.chips == []
    assert page.page.input_value("#text") == "a red circle"


def test_the_buttons_add_and_subtract_parts_and_results(opened: Opened) -> None:
    page = opened()
    page.page.fill("#text", "a star")
    page.page.click("#minus")
    page.page.keyboard.type("green")
    with page.page.expect_response("**/api/search"):
        page.page.keyboard.press("Enter")
    page.settle()
    assert page.chips == ["+a star", "-green"]
    cell = page.cells.nth(1)
    cell.hover()
    with page.page.expect_response("**/api/search"):
        cell.get_by_role("button", name="Subtract from the query").click()
    page.settle()
    assert [chip[0] for chip in page.chips] == ["+", "-", "-"]
    assert [sorted(term) for term in page.requests[-1]["terms"]] == [["text", "weight"]] * 2 + [["id", "weight"]]


def test_a_result_that_is_dragged_to_the_search_field_is_added(opened: Opened) -> None:
    page = opened()
    page.search("a star")
    wanted = page.images()[2].split("/")[2]
    with page.page.expect_response("**/api/search"):
        page.cells.nth(2).locator(".open").drag_to(page.page.locator("#composer"))
    page.settle()
    assert page.chips == ["+a star", f"+Result {wanted}"]
    assert page.requests[-1]["terms"][1] == {"weight": 1, "id": int(wanted)}


def test_filters_leave_out_results_and_are_counted(opened: Opened) -> None:
    page = opened()
    page.search("a star")
    page.page.click("#filters-button")
    page.page.fill("#words", "green star")
    with page.page.expect_response("**/api/search"):
        page.page.press("#words", "Enter")
    page.settle()
    captions = page.captions()
    assert captions
    assert all("green" in text and "star" in text for text in captions)
    expect(page.page.locator("#filter-count")).to_have_text("1")
    expect(page.page.locator("#summary")).to_contain_text("filtered out")
    page.page.fill("[name=min_width]", "300")
    with page.page.expect_response("**/api/search"):
        page.page.press("[name=min_width]", "Enter")
    page.settle()
    sizes = [int(text.split(" × ")[0]) for text in page.page.locator(".facts span span:text(' × ')").all_inner_texts()]
    assert sizes
    assert min(sizes) >= 300
    assert page.requests[-1]["filters"] == {"words": "green star", "min_width": 300}


def test_no_result_says_why_and_what_to_do(opened: Opened) -> None:
    page = opened("?dataset=sample&q=a+star&words=nowhere-in-the-captions")
    expect(page.page.get_by_role("heading", name="No results")).to_be_visible()
    expect(page.page.locator("#state")).to_contain_text("did not pass the filters")
    page.page.get_by_role("button", name="Clear the filters").click()
    page.settle()
    assert "words" not in page.page.url


def test_near_duplicates_are_collapsed_and_counted(opened: Opened) -> None:
    page = opened()
    page.search("a red circle left of a blue square")
    collapsed = int(page.page.locator("#collapsed").inner_text().replace(",", "") or 0)
    requested = page.requests[-1]["collapse"]
    with page.page.expect_response("**/api/search"):
        page.page.locator("label.switch").click()
    page.settle()
    assert (requested, page.requests[-1]["collapse"]) == (True, False)
    expect(page.page.locator("#collapsed")).to_be_hidden()
    assert collapsed >= 0
    assert "collapse=false" in page.page.url


def test_captions_are_another_index(opened: Opened) -> None:
    page = opened()
    page.search(SCENE)
    by_image = page.images()[:20]
    with page.page.expect_response("**/api/search"):
        page.page.locator("#index label", has_text="Captions").click()
    page.settle()
    assert page.requests[-1]["index"] == "text"
    assert "red circle" in page.captions()[0]
    assert "blue square" in page.captions()[0]
    assert page.images()[:20] != by_image


def test_a_shared_address_shows_the_same_results_elsewhere(opened: Opened) -> None:
    page = opened()
    page.search("a red circle -blue square")
    page.page.click("#share-button")
    address = page.page.input_value("#share-address")
    other = opened(address.removeprefix(page.url).removeprefix("/"))
    other.settle()
    assert other.images()[:20] == page.images()[:20]
    assert other.chips == page.chips


def test_an_address_with_an_upload_says_what_is_missing(opened: Opened) -> None:
    page = opened("?dataset=sample&q=a+star&image=upload")
    page.settle()
    expect(page.page.locator("#notice")).to_contain_text("uploaded image, which is not part of a link")


def test_the_back_button_returns_to_the_results_and_the_place(opened: Opened, site: Client) -> None:
    page = opened()
    page.search("a green star")
    first = page.images()[:10]
    page.page.mouse.wheel(0, 700)
    page.page.wait_for_function("scrollY > 300")
    place = page.page.evaluate("scrollY")
    page.give("drop", "star.jpg", "image/jpeg", stored(site, first[2]))
    expect(page.page.locator(".chip img")).to_be_visible()
    page.settle()
    second = page.images()[:10]
    asked = _first_pages(page)
    page.page.go_back()
    expect(page.page.locator(".chip")).to_have_count(0)
    assert page.images()[:10] == first
    assert page.page.input_value("#text") == "a green star"
    assert page.page.evaluate("scrollY") == pytest.approx(place, abs=2)
    page.page.go_forward()
    expect(page.page.locator(".chip img")).to_be_visible()
    assert page.images()[:10] == second
    assert _first_pages(page) == asked, "results were asked for again"


def _first_pages(page: SearchPage) -> list[dict[str, Any]]:
    """Return the requests without those for more results, which depend on where the page is scrolled to."""
    return [request for request in page.requests if not request.get("offset")]


def test_queries_survive_their_address(opened: Opened) -> None:
    """`query.js` by itself: an address is read back as the query that wrote it."""
    page: Page = opened().page
    survives = """async () => {
      const { EMPTY, fromAddress, toAddress, parseText } = await import("./page/scripts/query/query.js");
      const uid = "0".repeat(32);
      const query = { ...EMPTY, dataset: "a b&c", index: "text", collapse: false, result: 7,
        terms: [{ sign: 1, text: "é=& <b>" }, { sign: -1, text: "x" }, { sign: 1, id: 5, uid },
                { sign: -1, id: 0, uid }, { sign: 1, url: "https://a.test/?x=1&y=2" }],
        filters: { min_similarity: -0.25, max_height: 10, domain: "a.test", words: "two words", nsfw: ["A", "B"] } };
      const { query: read } = fromAddress(toAddress(query));
      const parsed = ["red car -toy +big wheels", "-toy", "t-shirt a - b", "", "a −b"].map(parseText);
      return [JSON.stringify(Object.entries(read).sort()) === JSON.stringify(Object.entries(query).sort()), parsed];
    }"""
    same, parsed = page.evaluate(survives)
    assert same
    assert parsed == [
        {"text": "red car", "terms": [{"sign": -1, "text": "toy"}, {"sign": 1, "text": "big wheels"}]},
        {"text": "", "terms": [{"sign": -1, "text": "toy"}]},
        {"text": "t-shirt a - b", "terms": []},
        {"text": "", "terms": []},
        {"text": "a", "terms": [{"sign": -1, "text": "b"}]},
    ]
