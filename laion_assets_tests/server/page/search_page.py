"""The search page in a browser, watched: every request, console message, violated policy and dialog."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Locator, Page, Response, expect

VIOLATIONS = """
window.violations = [];
addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => {
  violations.push(`${violatedDirective} ${blockedURI}`);
});
"""
SHIFTS = """
window.shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""
"""Sums layout shifts, as the metric CLS does."""
DROP = """
async ([kind, name, type, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  const target = document.body;
  if (kind === "paste") {
    target.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true }));
    return;
  }
  for (const step of ["dragenter", "dragover", "drop"]) {
    target.dispatchEvent(new DragEvent(step, { dataTransfer: transfer, bubbles: true, cancelable: true }));
  }
}
"""


@dataclass
class SearchPage:
    """An open search page."""

    page: Page
    url: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of search requests."""
    wrong: list[str] = field(default_factory=list)
    """What must not happen: requests to other hosts, errors in the console, dialogs, popups."""
    expected: tuple[str, ...] = ()
    """Parts of console messages that a test provokes."""

    def __post_init__(self) -> None:
        page = self.page
        page.add_init_script(VIOLATIONS + SHIFTS)
        page.on("request", lambda request: self._note(request.url, request.post_data_json if request.post_data else {}))
        page.on("console", self._console)
        page.on("response", self._response)
        page.on("pageerror", lambda error: self.wrong.append(f"error {error}"))
        page.on("dialog", lambda dialog: (self.wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("popup", lambda opened: self.wrong.append(f"popup {opened.url}"))

    def _note(self, url: str, body: dict[str, Any]) -> None:
        if not url.startswith((f"{self.url}/", "blob:", "data:")):
            self.wrong.append(f"request {url}")
        if url.endswith("/api/search"):
            self.requests.append(body)

    def _response(self, response: Response) -> None:
        if response.status >= 400 and not any(part in str(response.status) for part in self.expected):
            self.wrong.append(f"{response.status} {response.url} for {response.request.post_data}")

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(part in message.text for part in self.expected):
            self.wrong.append(f"{message.type} {message.text}")

    def check(self) -> None:
        """Raise AssertionError if anything went wrong since the page was opened."""
        assert self.wrong == [], self.wrong
        violations = self.page.evaluate("window.violations")
        assert violations == [], violations

    def open(self, query: str = "") -> "SearchPage":
        self.page.goto(f"{self.url}/{query}")
        expect(self.page.locator("#dataset option").first).to_be_attached()
        return self

    def search(self, text: str) -> None:
        """Type a query and press Enter; return when its results are shown."""
        self.page.fill("#text", text)
        with self.page.expect_response("**/api/search"):
            self.page.press("#text", "Enter")
        self.settle()

    def settle(self) -> None:
        """Wait until the results of the running search are shown, and nothing is loading."""
        expect(self.page.locator(".cell:not(.skeleton)").first).to_be_visible()
        expect(self.page.locator("#grid")).to_have_attribute("aria-busy", "false")

    @property
    def cells(self) -> Locator:
        return self.page.locator(".cell:not(.skeleton)")

    @property
    def chips(self) -> list[str]:
        """The parts of the query: "+text" or "-text"."""
        found = []
        for chip in self.page.locator(".chip").all():
            sign = "+" if "added" in (chip.get_attribute("class") or "") else "-"
            found.append(sign + chip.locator(".chip-text").inner_text())
        return found

    def captions(self) -> list[str]:
        return self.page.locator(".cell .caption").all_inner_texts()

    def images(self) -> list[str]:
        """The addresses of the images, which name id and uid."""
        return [image.get_attribute("src") or "" for image in self.page.locator(".cell .open img").all()]

    def similarities(self) -> list[float]:
        return [float(text) for text in self.page.locator(".cell .facts b").all_inner_texts()]

    def wait_for_images(self, within: str = ".cell .open img") -> None:
        """Wait until every image in the viewport is drawn."""
        drawn = """(selector) => {
          const images = [...document.querySelectorAll(selector)].filter((image) => {
            const box = image.getBoundingClientRect();
            return box.top < innerHeight && box.bottom > 0;
          });
          return images.length > 0 && images.every((image) => image.complete && image.naturalWidth > 100);
        }"""
        self.page.wait_for_function(drawn, arg=within)

    def give(self, kind: str, name: str, content_type: str, base64: str) -> None:
        """Drop or paste a file."""
        self.page.evaluate(DROP, [kind, name, content_type, base64])

    def shoot(self, path: Path) -> None:
        """Write a screenshot when fonts, images and transitions are done."""
        self.page.wait_for_timeout(600)
        self.page.screenshot(path=path)
