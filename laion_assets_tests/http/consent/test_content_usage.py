"""AIPREF parse_preferences: dictionaries of structured fields, strictly."""

import pytest

from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.http.consent.content_usage import disallowed_usage, parse_preferences
from laion_assets.http.fetch import Fetcher
from laion_assets.reasons import Reason
from laion_assets_tests.stages.image_shards.site import answer, running


@pytest.mark.parametrize(
    "text",
    [
        "train-ai=n",
        "  train-ai=n ",
        "search=y, train-ai=n",
        "search=y\t,\ttrain-ai=n;source=x",
        "train-ai=y, train-ai=n",
        "train-ai=n;a;b=?1;c=\"x, y\";d=1.5;e=:aGk=:;f=@1;g=%\"%c3%a4\", unknown=(a \"b\" 3;x);y",
        "other, train-ai=n",
    ],
)  # fmt: skip
def test_disallowed(text):
    assert disallowed_usage([text], ("train-ai",)) == "train-ai"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "train-ai=y",
        "train-ai",
        'train-ai="n"',
        "train-ai=?0",
        "train-ai=N",
        "train-ai=no",
        "train-ai=(n)",
        "Train-AI=n",
        "search=n",
        "train-ai=n, train-ai=y",
        "train-ai=n, train-ai",
        "train-ai=n,",
        "train-ai=n;",
        "train-ai = n",
        "train-ai=n search=y",
        "train-ai=n, =y",
        'search="open, train-ai=n',
        "train-ai=n\x00",
        "train-ai=n, é=y",
    ],
)
def test_no_preference(text):
    assert disallowed_usage([text], ("train-ai",)) is None


def test_the_most_restrictive_statement_counts():
    assert disallowed_usage(["train-ai=y", "train-ai=n"], ("train-ai",)) == "train-ai"
    assert disallowed_usage(["train-ai=y", "nonsense,,"], ("train-ai",)) is None


def test_values_are_returned_unchanged():
    assert parse_preferences("a=y;p=1, b, c=(1 2)") == {"a": "y", "b": None, "c": "(1 2)"}


def test_long_input_is_linear():
    assert parse_preferences("a=" + "(" * 30_000) == {}
    assert parse_preferences("a;" * 30_000 + "=") == {}
    assert parse_preferences(", ".join(["a=n"] * 15_000)) == {"a": "n"}


def test_the_header_is_honoured_before_the_body_and_counted_as_a_refusal():
    pages = {
        "/no": answer(b"x" * 90_000, "200 OK", "Content-Usage: search=y", "content-usage: train-ai=n;a=b"),
        "/search": answer(b"body", "200 OK", "Content-Usage: search=n"),
    }
    with running(pages) as site:
        fetcher = Fetcher(FetchPolicy(resolve=site.resolve, retries=3))
        refused = fetcher.fetch(site.url("/no"))
        assert (refused.reason, refused.detail) == (Reason.OPTED_OUT, "Content-Usage: train-ai=n")
        assert (refused.attempts, refused.body) == (1, b"")
        assert fetcher.fetch(site.url("/search")).reason is Reason.SUCCESS
        for_search = Fetcher(FetchPolicy(resolve=site.resolve, opt_out_usages=("search",)))
        assert for_search.fetch(site.url("/search")).reason is Reason.OPTED_OUT
