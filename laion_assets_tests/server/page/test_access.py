"""Accessibility of the search page: keyboard only, small screens, both colour schemes, reduced motion."""

import json
import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from laion_assets_tests.server.page.fixtures import ARTIFACTS, PHONE, Opened

pytestmark = pytest.mark.browser

MAX_PICTURE_BYTES = 300_000


def test_the_keyboard_reaches_everything(opened: Opened) -> None:
    page = opened()
    keys = page.page.keyboard

    def focused(selector: str) -> bool:
        return bool(page.page.evaluate("(selector) => document.activeElement.matches(selector)", selector))

    page.page.evaluate("document.activeElement.blur()")
    keys.press("?")
    expect(page.page.locator("#shortcut-list")).to_be_visible()
    keys.press("Escape")
    keys.press("/")
    assert focused("#text")
    keys.type("a green star")
    with page.page.expect_response("**/api/search"):
        keys.press("Enter")
    page.settle()
    keys.press("ArrowDown")
    assert focused(".cell .open")
    keys.press("ArrowRight")
    keys.press("ArrowDown")
    at = page.page.evaluate("[...document.querySelectorAll('.open')].indexOf(document.activeElement)")
    first_row = page.page.locator(".row").first.locator(".cell").count()
    assert at >= first_row
    keys.press("ArrowUp")
    assert page.page.evaluate("[...document.querySelectorAll('.open')].indexOf(document.activeElement)") < first_row
    outline = page.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    caption = page.page.evaluate("document.activeElement.getAttribute('aria-label')")
    keys.press("Enter")
    expect(page.page.locator("#detail")).to_be_visible()
    expect(page.page.locator(".stages")).to_be_visible()
    for _ in range(25):
        keys.press("Tab")
        assert not page.page.evaluate("document.activeElement.closest('header, main')"), "the focus left the dialog"
    keys.press("Escape")
    expect(page.page.locator("#detail")).to_be_hidden()
    page.page.wait_for_function(f"document.activeElement.getAttribute('aria-label') === {json.dumps(caption)}")
    with page.page.expect_response("**/api/search"):
        keys.press("m")
    page.settle()
    assert len(page.chips) == 1
    keys.press("/")
    with page.page.expect_response("**/api/search"):
        keys.type("-circle")
        keys.press("Enter")
    page.settle()
    assert page.chips[1] == "-circle"
    page.page.focus("#export-button")
    keys.press("Enter")
    expect(page.page.locator("#export-menu")).to_be_visible()
    keys.press("Escape")
    expect(page.page.locator("#export-menu")).to_be_hidden()
    assert focused("#export-button")


@pytest.mark.parametrize("width", [390, 820])
def test_nothing_is_wider_than_the_screen(opened: Opened, width: int) -> None:
    page = opened(viewport={**PHONE, "width": width}, has_touch=True, is_mobile=True)
    wide = "document.documentElement.scrollWidth > innerWidth"
    page.wait_for_images(".strip img")
    assert not page.page.evaluate(wide)
    page.shoot(ARTIFACTS / f"search-start-{width}.png")
    page.search("a red circle -blue square")
    page.wait_for_images()
    assert not page.page.evaluate(wide)
    page.shoot(ARTIFACTS / f"search-{width}.png")
    assert page.page.locator(".row").first.locator(".cell").count() >= 2
    for button in ("#filters-button", "#share-button", "#export-button"):
        page.page.tap(button)
        assert not page.page.evaluate(wide), button
        panel = page.page.locator(f"#{page.page.get_attribute(button, 'aria-controls')}")
        box = panel.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        page.shoot(ARTIFACTS / f"search-{button.removeprefix('#')}-{width}.png")
        page.page.tap(button)
    page.cells.nth(1).locator(".open").tap()
    expect(page.page.locator(".stages")).to_be_visible()
    assert page.page.locator("#detail").evaluate("detail => detail.scrollWidth <= detail.clientWidth")
    page.shoot(ARTIFACTS / f"search-result-{width}.png")


UNREADABLE = """
() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const background = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const [r, g, b, a = 1] = channels(getComputedStyle(one).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (element.closest(":disabled, .hidden-label")) continue;
    const text = luminance(channels(getComputedStyle(element).color));
    const behind = luminance(background(element));
    const ratio = (Math.max(text, behind) + 0.05) / (Math.min(text, behind) + 0.05);
    if (ratio < 4.5) found.push(`${element.tagName} ${element.className} ${element.textContent} ${ratio.toFixed(2)}`);
  }
  return found;
}
"""
"""Texts whose contrast with what is behind them is below 4.5, as the browser computes their colours."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_are_readable_in_both_schemes(opened: Opened, scheme: str) -> None:
    page = opened(color_scheme=scheme)
    background = page.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 200) == (scheme == "dark")
    assert page.page.evaluate(UNREADABLE) == []
    page.search("a red circle -blue square")
    page.wait_for_images()
    page.page.click("#filters-button")
    page.page.click("#export-button")
    assert page.page.evaluate(UNREADABLE) == []
    page.shoot(ARTIFACTS / f"search-export-{scheme}.png")
    page.page.keyboard.press("Escape")
    page.shoot(ARTIFACTS / f"search-{scheme}.png")
    page.cells.nth(2).locator(".open").click()
    expect(page.page.locator(".stages")).to_be_visible()
    assert page.page.evaluate(UNREADABLE) == []
    page.shoot(ARTIFACTS / f"search-result-{scheme}.png")


def test_the_toggle_of_the_colour_scheme_is_kept(opened: Opened) -> None:
    page = opened(color_scheme="light")
    background = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.page.evaluate(background)
    page.page.click("#theme")
    dark = page.page.evaluate(background)
    assert dark != light
    page.page.reload()
    assert page.page.evaluate(background) == dark
    page.page.click("#theme")
    assert page.page.evaluate(background) == light


def test_reduced_motion_stops_transitions(opened: Opened) -> None:
    page = opened(reduced_motion="reduce")
    page.search("a star")
    transitions = "new Set([...document.querySelectorAll('*')].map((e) => getComputedStyle(e).transitionDuration)).size"
    assert page.page.evaluate(transitions) == 1
    assert page.page.evaluate("getComputedStyle(document.querySelector('#submit')).transitionDuration") == "0s"


def test_the_pictures_of_the_readme(opened: Opened) -> None:
    """`docs/images/search.png` and `docs/images/result.png` are copies of these."""
    page = opened(viewport={"width": 1280, "height": 800})
    page.search("a red circle left of a blue square -black background")
    page.page.click("#filters-button")
    page.page.mouse.move(0, 0)
    page.wait_for_images()
    page.page.evaluate("document.activeElement.blur()")
    page.shoot(ARTIFACTS / "search.png")
    page.cells.nth(1).locator(".open").click()
    expect(page.page.locator(".stages")).to_be_visible()
    page.wait_for_images("#detail img")
    page.page.evaluate("document.activeElement.blur()")
    page.shoot(ARTIFACTS / "result.png")
    for name in ("search.png", "result.png"):
        path = ARTIFACTS / name
        Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
        assert path.stat().st_size < MAX_PICTURE_BYTES
