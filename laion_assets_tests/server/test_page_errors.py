"""The search page when the service is slow, busy, gone or refuses a query."""

import pytest
from playwright.sync_api import expect

from laion_assets_tests.server.page_fixtures import ARTIFACTS, Opened

pytestmark = pytest.mark.browser


def test_a_busy_server_is_asked_again_after_the_time_that_it_names(opened: Opened) -> None:
    page = opened(expected=("429",))
    answers = iter([429, 200])

    def busy_once(route: object) -> None:
        if next(answers) == 200:
            route.continue_()  # type: ignore[attr-defined]
            return
        body = {"error": {"code": "busy", "message": "Too many searches wait.", "field": None}}
        route.fulfill(status=429, headers={"Retry-After": "2"}, json=body)  # type: ignore[attr-defined]

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
