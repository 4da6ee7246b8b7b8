"""The search page when the service is slow, busy, gone or refuses a query."""

from dataclasses import replace

import pytest
from playwright.sync_api import Browser, Route, expect

from laion_assets.dataset.built_in import SAMPLE
from laion_assets_tests.end_to_end.conftest import Demo
from laion_assets_tests.server.page.fixtures import ARTIFACTS, DESKTOP, Opened
from laion_assets_tests.server.page.search_page import SearchPage
from laion_assets_tests.server.running import running_service

pytestmark = pytest.mark.browser


def test_a_busy_server_is_asked_again_after_the_time_that_it_names(opened: Opened) -> None:
    page = opened(expected=("429",))
    answers = iter([429])

    def busy_once(route: Route) -> None:
        if next(answers, 200) == 200:
            route.continue_()
            return
        body = {"error": {"code": "busy", "message": "Too many searches wait.", "field": None}}
        route.fulfill(status=429, headers={"Retry-After": "2"}, json=body)

    page.page.route("**/api/search", busy_once)
    page.page.fill("#text", "a star")
    page.page.press("#text", "Enter")
    expect(page.page.get_by_role("heading", name="The server is busy")).to_be_visible()
    expect(page.page.locator(".countdown")).to_contain_text("Trying again in")
    page.shoot(ARTIFACTS / "search-busy.png")
    page.settle()
    assert len(page.requests) >= 2


def test_without_a_network_the_search_waits_for_it(opened: Opened) -> None:
    page = opened(expected=("ERR_INTERNET_DISCONNECTED",))
    page.page.context.set_offline(True)
    page.page.fill("#text", "a star")
    page.page.press("#text", "Enter")
    expect(page.page.get_by_role("heading", name="The server cannot be reached")).to_be_visible()
    page.page.context.set_offline(False)
    page.settle()


def test_an_error_of_the_server_is_its_own_sentence(opened: Opened) -> None:
    page = opened(expected=("400",))
    too_long = "x" * 10_001
    page.page.fill("#text", too_long)
    page.page.press("#text", "Enter")
    expect(page.page.get_by_role("heading", name="This search is not possible")).to_be_visible()
    expect(page.page.locator(".message")).to_contain_text("10,000")


def test_a_slow_answer_shows_placeholders(opened: Opened) -> None:
    page = opened()
    page.page.route("**/api/search", lambda route: (page.page.wait_for_timeout(900), route.continue_()))
    page.page.fill("#text", "a star")
    page.page.press("#text", "Enter")
    expect(page.page.locator(".skeleton").first).to_be_visible()
    page.settle()
    expect(page.page.locator(".skeleton")).to_have_count(0)


def test_a_service_with_a_token_asks_for_it(browser: Browser, demo: Demo) -> None:
    token = "a-token-of-the-operator"
    with running_service(replace(SAMPLE, root=str(demo.root)), token=token) as running:
        context = browser.new_context(viewport=DESKTOP)
        page = SearchPage(context.new_page(), f"http://127.0.0.1:{running.port}", expected=("401",))
        page.page.goto(page.url)
        expect(page.page.get_by_role("heading", name="A token is needed")).to_be_visible()
        page.page.get_by_label("Token").fill(token)
        page.page.get_by_role("button", name="Use the token").click()
        expect(page.page.locator("h1")).to_contain_text("images by words")
        page.search("a star")
        page.wait_for_images()
        page.cells.first.locator(".open").click()
        page.wait_for_images("#detail img")
        assert token not in page.page.url
        page.check()
        context.close()
