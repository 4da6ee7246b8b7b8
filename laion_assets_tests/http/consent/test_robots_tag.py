"""Consent in headers, in every legal form."""

from datetime import UTC, datetime

import pytest

from laion_assets.http.consent.robots_tag import find_refusal, parse_robots_tag

DIRECTIVES = ("noai", "noimageai", "noindex", "noimageindex")
TOKENS = ("laion-assets", "img2dataset")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def refused(*tags, tdm=(), directives=DIRECTIVES):
    return find_refusal(tags, tdm, directives, TOKENS, NOW)


@pytest.mark.parametrize(
    "tags",
    [
        ("noai",),
        ("NoAI",),
        ("all", "nofollow , noimageai"),
        ("nofollow,noindex",),
        ("none",),
        ("img2dataset: noai",),
        ("Laion-Assets:noindex, nofollow",),
        ("*: noai",),
        ("googlebot: nofollow, laion-assets: noai",),
        ("unavailable_after: 25 Jun 2010 15:00:00 PST",),
        ("unavailable_after: Friday, 25-Jun-10 15:00:00 UTC",),
        ("unavailable_after: 2010-06-25T15:00:00Z",),
        ("unavailable_after: Fri Jun 25 15:00:00 2010",),
        ("UNAVAILABLE_AFTER: FRI JUN 25 15:00:00 2010, nofollow",),
        ("unavailable_after: Friday, 25-Jun-10 15:00:00 GMT, all",),
        ("googlebot: noindex, img2dataset: unavailable_after: Friday, 25-Jun-10 15:00:00 GMT",),
        ("unavailable_after: Fri, 25 Jun 2010 15:00:00 GMT",),
        ("img2dataset: unavailable_after: 25 Jun 2010 15:00:00 GMT",),
        ("unavailable_after: Fri, 25 Jun 2099 15:00:00 GMT, noai",),
        ("unavailable_after: 25 Jun 2099 15:00:00 PST, noai",),
        ("max-snippet: 20, max-image-preview: large, noai",),
        ("googlebot: noindex", "noai"),
    ],
)
def test_refusals(tags):
    assert refused(*tags)


@pytest.mark.parametrize(
    "tags",
    [
        (),
        ("",),
        ("all",),
        ("nofollow, noarchive",),
        ("googlebot: noai, noindex",),
        ("laion-assets: nofollow, otherbot: noindex",),
        ("unavailable_after: 25 Jun 2099 15:00:00 GMT",),
        ("unavailable_after: 2099-06-25",),
        ("unavailable_after: Thu Jun 25 15:00:00 2099",),
        ("otherbot: unavailable_after: Fri, 25 Jun 2010 15:00:00 GMT",),
        ("unavailable_after: soon",),
        ("max-image-preview: none",),
        ("noaim, xnoindex",),
    ],
)
def test_no_refusals(tags):
    assert refused(*tags) is None


@pytest.mark.parametrize(("value", "refuses"), [("1", True), (" 1 ", True), ("0", False), ("", False), ("10", False)])
def test_tdm_reservation(value, refuses):
    assert bool(refused(tdm=(value,))) is refuses


def test_only_configured_directives_are_honoured():
    assert refused("noindex", "none", directives=("noai",)) is None
    assert refused("unavailable_after: 2010-01-01", directives=("noai",)) is None


def test_parsing_keeps_scopes_and_values():
    value = "a: noindex, max-snippet: 20, b: unavailable_after: Fri, 25 Jun 2010 15:00:00 GMT, nofollow"
    assert list(parse_robots_tag(value)) == [
        ("a", "noindex", ""),
        ("a", "max-snippet", "20"),
        ("b", "unavailable_after", "fri, 25 jun 2010 15:00:00 gmt"),
        ("b", "nofollow", ""),
    ]
