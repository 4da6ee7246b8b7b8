"""Detection of local failures from row outcomes, without a network. Also runs `bench/local_failures.py` in small."""

import importlib
from pathlib import Path

import pytest

from laion_assets.reasons import Reason
from laion_assets.stages.image_shards.local_failures.failing_sites import (
    RowOutcome,
    expected_share,
    failing_share,
    find_site,
    has_risen,
    mean_share,
    outages,
    threshold,
)

BENCH = Path(__file__).parents[4] / "bench"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("local_failures")


def rows(pattern):
    """Return one row per character: `.` a response and `x` a failure at a new site, a capital one at that site."""
    return [
        RowOutcome(n, character if character.isupper() else f"s{n}", "http",
                   Reason.SUCCESS if character == "." else Reason.HTTP_5XX, float(n), n + 1.0)
        for n, character in enumerate(pattern)
    ]  # fmt: skip


def worst(pattern, expected=0.5):
    return max(outages(rows(pattern), expected), key=lambda outage: outage.score)


def test_failures_count_once_per_site():
    assert worst("x" * 40).score >= threshold(40)
    assert worst("A" * 400).score < 1
    assert worst("AB" * 200).score < 2
    assert worst("x" * 40).sites == 40


def test_an_outage_starts_at_its_first_failure_and_survives_one_response():
    found = worst("." * 30 + "x" * 25 + "." + "x" * 25 + "." * 30)
    assert (found.rows[0].place, found.rows[-1].place) == (30, 80)
    assert found.sites == 50
    assert worst("x.." * 100).sites == 1


def test_rows_count_in_the_order_of_their_requests():
    """Dead links end late: in the order of their ends, every shard would end with an outage."""
    mixed = rows("x." * 40)
    for row in mixed:
        row.ended += 20 if row.reason is not Reason.SUCCESS else 0
    late = sorted(mixed, key=lambda row: row.ended)
    assert max(outage.score for outage in outages(late, 0.5)) < 1


def test_more_expected_failures_need_more_evidence():
    assert expected_share(None, 0.5) == 0.5
    assert expected_share(0.0, 0.5) == 0.3
    assert expected_share(0.4, 0.5) == pytest.approx(0.55)
    assert expected_share(1.0, 0.5) == 0.98
    scores = [worst("x" * 40, expected).score for expected in (0.3, 0.5, 0.9)]
    assert scores[0] > scores[1] > threshold(40) > scores[2]


def test_shares_are_means_over_sites_and_a_rise_must_be_significant():
    assert failing_share(rows("A" * 90 + "..........")) == (pytest.approx(1 / 11), 11)
    assert failing_share([]) == (0.0, 0)
    assert has_risen(0.6, 10_000, 0.3)
    assert not has_risen(0.6, 40, 0.3)
    assert not has_risen(0.5, 10_000, 0.3)
    assert not has_risen(0.9, 10_000, None)
    assert mean_share([(0.5, 10)]) is None
    assert mean_share([(0.5, 30), (0.1, 10)]) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("host", "site"),
    [
        ("a.b.example.org", "example.org"),
        ("img.shop.co.uk", "shop.co.uk"),
        ("co.uk", "co.uk"),
        ("photos-07.test", "photos-07.test"),
        ("Example.ORG.", "example.org"),
        ("93.184.216.34", "93.184.216.34"),
        ("2606:2800::1", "2606:2800::1"),
    ],
)
def test_a_site_is_a_registrable_domain_or_an_address(host, site):
    assert find_site(host) == site


@pytest.mark.parametrize("size", [4, 250])
def test_no_shard_without_a_local_failure_is_refused(size, bench):
    for name, web in bench.WEBS.items():
        assert bench.count_false_alarms(web, size, 20, seed=1) == 0, name


@pytest.mark.parametrize("size", [4, 250])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("fault", ["refused", "captive portal", "TLS without CA", "connect timeouts"])
def test_shards_with_a_local_failure_lose_no_row(fault, first, size, bench):
    for shape in (f"{fault}, the whole shard", "refused from 90 % on"):
        share, lost, asked = bench.measure_detection(bench.SHAPES[shape], size, 10, first, seed=2)
        assert (share, lost) == (1.0, 0.0)
        assert 0 < asked <= size
