"""Reasons of a retry: opt-outs are never retried, and permanent failures only by name."""

from dataclasses import replace

import pytest

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.errors import SettingError
from laion_assets.http.messages.response_headers import ResponseHeaders
from laion_assets.http.response_policy import check_response
from laion_assets.reasons import Reason, Rejection
from laion_assets.stages.image_shards.retry_reasons import (
    GUARD_DETAIL,
    NEWLY_ALLOWED,
    OPT_OUTS,
    PERMANENT,
    guard_digest,
    parse_run_config,
    reasons_of_shard,
    retry_reasons,
)
from laion_assets.store.manifest import Counts, Manifest


def test_failed_selects_all_failures_except_permanent_ones_and_opt_outs():
    assert set(retry_reasons("failed")) == {NEWLY_ALLOWED} | set(Reason) - {Reason.SUCCESS} - OPT_OUTS - PERMANENT


def test_retryable_selects_only_transient_failures():
    found = set(retry_reasons("retryable"))
    assert {Reason.DNS_FAILURE, Reason.HTTP_5XX, Reason.HTTP_429, Reason.DEADLINE, Reason.LOCAL_FAILURE} <= found
    assert not found & (PERMANENT | OPT_OUTS | {Reason.SUCCESS, Reason.NOT_AN_IMAGE, Reason.HTTP_403})


def test_permanent_failures_are_retried_when_given_by_name():
    assert retry_reasons("http_404, http_5xx") == (Reason.HTTP_404, Reason.HTTP_5XX)
    assert retry_reasons(["http_451"]) == (Reason.HTTP_451,)


AGAIN = {
    Reason.DNS_FAILURE, Reason.NO_ROUTE, Reason.LOCAL_FAILURE, Reason.CONNECT_FAILURE, Reason.TLS_FAILURE,
    Reason.CONNECTION_RESET, Reason.DEADLINE, Reason.HOST_BUSY, Reason.SHORT_BODY, Reason.TOO_LARGE,
    Reason.BAD_RESPONSE, Reason.BAD_ENCODING, Reason.REDIRECT_LOOP, Reason.TOO_MANY_REDIRECTS, Reason.BAD_REDIRECT,
    Reason.NO_CONTENT, Reason.HTTP_403, Reason.HTTP_429, Reason.HTTP_4XX, Reason.HTTP_5XX, Reason.HTTP_OTHER,
    Reason.NOT_AN_IMAGE, Reason.UNSUPPORTED_FORMAT, Reason.TOO_MANY_PIXELS, Reason.IMAGE_TOO_SMALL,
    Reason.ASPECT_RATIO, Reason.UNDECODABLE, Reason.DECODER_CRASH, Reason.DECODE_TIMEOUT, Reason.INTERNAL,
}  # fmt: skip


def test_every_reason_is_classified_for_retries():
    """A new reason is in none of the sets, so this test fails until it is classified."""
    assert not AGAIN & OPT_OUTS
    assert not AGAIN & PERMANENT
    assert not OPT_OUTS & PERMANENT
    assert AGAIN | OPT_OUTS | PERMANENT | {Reason.SUCCESS} == set(Reason)


@pytest.mark.parametrize(
    "header", [("x-robots-tag", "noai"), ("tdm-reservation", "1"), ("content-usage", "train-ai=n")], ids=str
)
def test_every_opt_out_of_the_fetcher_is_never_retried(header):
    with pytest.raises(Rejection) as refused:
        check_response(ResponseHeaders(200, (header,)), FetchPolicy())
    assert refused.value.reason in OPT_OUTS


@pytest.mark.parametrize("word", sorted(OPT_OUTS))
def test_an_opt_out_cannot_be_retried_by_name(word):
    with pytest.raises(SettingError, match="never fetched again"):
        retry_reasons(["http_5xx", word])


@pytest.mark.parametrize("word", ["success", "dns", "Failed"])
def test_an_unknown_reason_is_refused_with_a_list_of_reasons(word):
    with pytest.raises(SettingError, match=rf"unknown reason '{word}'.*dns_failure"):
        retry_reasons(word)


@pytest.mark.parametrize(("value", "reasons"), [("", ()), ([], ()), ("http_5xx", ("http_5xx",)), (["deadline"],) * 2])
def test_run_config_accepts_a_word_or_a_list(value, reasons):
    assert parse_run_config(value) == tuple(reasons)


def test_refused_urls_are_retried_in_shards_that_were_built_with_other_allowed_networks():
    dataset = replace(SAMPLE, source="/csv")
    allowed = replace(dataset, allow_networks=("10.0.0.0/8",))
    counts = Counts(9, 2, {"blocked_address": 4, "http_404": 2, "dns_failure": 1})
    retry = parse_run_config("failed")

    def shard(details):
        return Manifest("image_shards", "00000", (), counts, "", "", details=details)

    same = shard({GUARD_DETAIL: guard_digest(dataset)})
    assert reasons_of_shard(dataset, same, retry) == ("dns_failure",)
    assert reasons_of_shard(allowed, same, retry) == ("blocked_address", "dns_failure")
    assert reasons_of_shard(allowed, same, (NEWLY_ALLOWED,)) == ("blocked_address",)
    assert reasons_of_shard(dataset, same, ("blocked_address",)) == ("blocked_address",)
    assert reasons_of_shard(replace(dataset, resolve={"a.test": "10.0.0.1:80"}), same, (NEWLY_ALLOWED,))
    older = shard({})
    assert not reasons_of_shard(dataset, older, (NEWLY_ALLOWED,))
    assert reasons_of_shard(allowed, older, (NEWLY_ALLOWED,))


def test_the_address_of_the_embedded_site_is_no_setting_of_the_guard():
    assert guard_digest(SAMPLE) == guard_digest(SAMPLE.with_resolve({"*.test": "127.0.0.1:4000"}))


@pytest.mark.parametrize("value", [7, {"failed": 1}, [1], None])
def test_run_config_refuses_other_values(value):
    with pytest.raises(SettingError, match="retry is"):
        parse_run_config(value)
