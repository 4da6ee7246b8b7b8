"""clip-retrieval's unmodified front end in Chromium: it searches, and shows the images of this service only."""

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Request, Response

from laion_assets_tests.server.page.fixtures import ARTIFACTS
from laion_assets_tests.server.running import Client

pytestmark = pytest.mark.browser
DRAWN = """() => {
    const images = [...document.querySelector("clip-front").shadowRoot.querySelectorAll("#products img")]
    const results = images.filter(image => !image.src.includes("/clip-front/assets/"))  // the others are icons
    return results.filter(image => image.complete && image.naturalWidth > 0).map(image => image.src)
}"""


def test_front_end_finds_images_by_text(browser: Browser, site: Client) -> None:
    origin = f"http://127.0.0.1:{site.port}"
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    requests: list[Request] = []
    violations: list[ConsoleMessage] = []
    page.on("request", lambda request: requests.append(request))
    page.on("console", lambda message: violations.append(message) if "Content Security" in message.text else None)
    answers: list[Response] = []
    page.on("response", lambda answer: answers.append(answer) if answer.url.endswith("/knn-service") else None)
    page.goto(f"{origin}/clip-front/")
    page.locator("clip-front #searchBar").fill("a red circle")
    page.locator("clip-front #searchBar").press("Enter")
    page.wait_for_function(f"() => ({DRAWN})().length >= 10", timeout=30_000)
    drawn = page.evaluate(DRAWN)
    page.screenshot(path=ARTIFACTS / "clip-front.png")
    assert all(source.startswith(f"{origin}/images/sample/") for source in drawn)
    assert all(request.url.startswith((origin, "data:", "blob:")) for request in requests)
    assert not [message.text for message in violations]
    ignored = answers[0].header_value("x-ignored-fields")
    assert ignored == "use_safety_model, use_violence_detector", "its safe mode is on by default"
    page.close()
