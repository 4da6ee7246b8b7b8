"""The report and the plots hold strangers' text as text: no script, no event handler, no link, no request."""

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.plain_text import one_line
from laion_assets.stages.plots import areas, bars
from laion_assets.stages.statistics.build import REPORT, read_charts, read_summaries
from laion_assets.store.store import Store
from laion_assets_tests.hostile_dataset import publish_hostile
from laion_assets_tests.hostile_text import HOSTILE, INVISIBLE

PAGE_TAGS = {"html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "div", "b", "span"} | {
    *("section", "table", "thead", "tbody", "tr", "th", "td", "details", "summary"),
}
SVG_TAGS = {"svg", "defs", "style", "g", "path", "clippath", "rect", "use", "text", "tspan"}
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


class Reader(HTMLParser):
    """Reads a page as a browser does: its elements with their attributes, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.comments: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


@pytest.fixture
def hostile(dataset: Dataset) -> Dataset:
    return publish_hostile(dataset)


def test_report_escapes_untrusted_text(hostile: Dataset) -> None:
    page = (Path(Store.of(hostile).url) / REPORT).read_text("utf-8")
    assert not INVISIBLE.search(page.replace("\n", ""))
    reader = Reader()
    reader.feed(page)
    assert {tag for tag, _ in reader.elements} <= PAGE_TAGS | SVG_TAGS
    names = {name for _, attributes in reader.elements for name in attributes}
    assert not [name for name in names if name.startswith("on") or name in ("src", "srcset", "action", "formaction")]
    targets = {value for _, given in reader.elements for name, value in given.items() if name in ("href", "xlink:href")}
    assert all(target is not None and target.startswith("#") for target in targets)
    assert not re.search(r"@import|url\((?!#)", page)
    shown = set(reader.texts)
    for text in HOSTILE:
        assert one_line(text) in shown, text
    metas = [given for tag, given in reader.elements if tag == "meta" and "http-equiv" in given]
    assert metas == [{"http-equiv": "Content-Security-Policy", "content": POLICY}]
    assert page.index("Content-Security-Policy") < min(page.index("<style>"), page.index("<title>"))


def test_plots_are_valid_and_escape_untrusted_text(hostile: Dataset) -> None:
    store = Store.of(hostile)
    for asset, summary in read_summaries(store).items():
        for _, svg in read_charts(store, asset, summary):
            root = ElementTree.fromstring(svg)
            tags = {element.tag.rpartition("}")[2].lower() for element in root.iter()}
            assert tags <= SVG_TAGS
            given = {name.rpartition("}")[2] for element in root.iter() for name in element.attrib}
            assert not [name for name in given if name.startswith("on")]


@pytest.mark.parametrize("text", ["a$x^2$b", "$\\frac{$ $x^2$", "$\\bad{$", "_hidden"])
def test_dollar_signs_and_leading_underscores_are_drawn_literally(text: str) -> None:
    for svg in (bars("a", [(text, 1), ("b", 2)]), areas("b", [0, 1], [(text, [0.5, 0.5])], "shard")):
        drawn = {element.text for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("}text")}
        assert text in {label.strip() for label in drawn if label}
