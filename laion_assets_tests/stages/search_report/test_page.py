"""The page shows queries and strangers' captions as text: no script, no link out of it, no request."""

import re
from typing import Any

import pytest

from laion_assets.plain_text import one_line
from laion_assets.stages.search_report.page import CAPTION_CHARS, report_page
from laion_assets_tests.hostile_text import HOSTILE, INVISIBLE
from laion_assets_tests.stages.statistics.test_report import PAGE_TAGS, SVG_TAGS, Reader

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
TAGS = PAGE_TAGS | SVG_TAGS | {"nav", "ul", "li", "a", "figure", "figcaption", "img", "code"}


def make_figures(text: str) -> dict[str, Any]:
    result = {"uid": text, "row": 7, "similarity": 0.25, "caption": text}
    recall = [{"index": "image", "kind": kind, "queries": 2, "recall_at_10": 0.9} for kind in ("text", "caption")]
    return {
        "dataset": text,
        "model": text,
        "vectors": 1_234,
        "width": 8,
        "index": {"index_key": text, "index_param": None},
        "indexed_at": "2026-01-01",
        "recall": recall,
        "near_duplicates": {"images": 5, "first": 3, "in_ten": 4},
        "latency": [{"step": "whole query", "samples": 3, "p50_ms": 1.5, "p99_ms": 2.5}],
        "queries": [{"query": text, "hidden": 1_000, "results": [result, {**result, "row": 8}]}],
    }


@pytest.mark.parametrize("text", HOSTILE)
def test_page_escapes_untrusted_text(text: str) -> None:
    page = report_page(text, make_figures(text), {7: b"jpeg", 8: b""})
    assert not INVISIBLE.search(page.replace("\n", ""))
    reader = Reader()
    reader.feed(page)
    assert {tag for tag, _ in reader.elements} <= TAGS
    for tag, attributes in reader.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in ("srcset", "action", "formaction", "style") or tag in SVG_TAGS
            if name in ("href", "xlink:href"):
                assert value is not None
                assert value.startswith("#")
            if name == "src":
                assert value == "data:image/jpeg;base64,anBlZw=="
    assert not re.search(r"@import|url\((?!#)", page)
    policies = [given["content"] for tag, given in reader.elements if tag == "meta" and "http-equiv" in given]
    assert policies == [POLICY]
    assert one_line(text, CAPTION_CHARS).strip() in "".join(reader.texts)


def test_figures_are_in_the_page() -> None:
    page = report_page("described", make_figures("a query"), {7: b"jpeg"})
    for shown in ("1,234", "0.900", "3 of 5", "1.5 ms", "2.5 ms", "1,000 hidden", "no image", "described"):
        assert shown in page, shown
    assert "not tagged UNLIKELY (NSFW, UNSURE and untagged) are hidden" in page
    page = report_page("described", make_figures("a query"), {7: b"jpeg"}, show_untagged=True)
    assert "Images with another tag than UNLIKELY (NSFW, UNSURE) are hidden" in page


def test_no_image_that_may_be_shown_is_said() -> None:
    found = make_figures("a query")
    found["queries"][0]["results"] = []
    page = report_page("", found, {})
    assert "No image that may be shown." in page
    assert "<svg" not in page
