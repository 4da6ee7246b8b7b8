"""What a retry may fetch again: never what its owner refused, and what is settled only by its name."""

import pytest

from laion_assets.errors import SettingError
from laion_assets.http.messages.response_headers import ResponseHeaders
from laion_assets.http.policy import FetchPolicy
from laion_assets.http.response_policy import check_response
from laion_assets.reasons import Reason, Rejection
from laion_assets.stages.image_shards.retry_reasons import CONSENT, SETTLED, asked_in_config, retry_reasons


def test_failed_is_every_failure_that_is_neither_settled_nor_a_refusal():
    assert set(retry_reasons("failed")) == set(Reason) - {Reason.SUCCESS} - CONSENT - SETTLED


def test_retryable_is_what_may_well_pass():
    found = set(retry_reasons("retryable"))
    assert {Reason.DNS_FAILURE, Reason.HTTP_5XX, Reason.HTTP_429, Reason.DEADLINE, Reason.LOCAL_FAILURE} <= found
    assert not found & (SETTLED | CONSENT | {Reason.SUCCESS, Reason.NOT_AN_IMAGE, Reason.HTTP_403})


def test_settled_reasons_are_retried_when_they_are_named():
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


def test_for_each_reason_it_is_decided_whether_a_retry_asks_again():
    """A new reason is in no set, and fails here until somebody says whether it is a refusal."""
    assert not AGAIN & CONSENT
    assert not AGAIN & SETTLED
    assert not CONSENT & SETTLED
    assert AGAIN | CONSENT | SETTLED | {Reason.SUCCESS} == set(Reason)


@pytest.mark.parametrize(
    "header", [("x-robots-tag", "noai"), ("tdm-reservation", "1"), ("content-usage", "train-ai=n")], ids=str
)
def test_what_the_fetch_takes_for_a_refusal_is_one_here(header):
    with pytest.raises(Rejection) as refused:
        check_response(ResponseHeaders(200, (header,)), FetchPolicy())
    assert refused.value.reason in CONSENT


@pytest.mark.parametrize("word", sorted(CONSENT))
def test_a_refusal_by_the_owner_is_not_retried_even_by_name(word):
    with pytest.raises(SettingError, match="never asked again"):
        retry_reasons(["http_5xx", word])


@pytest.mark.parametrize("word", ["success", "dns", "Failed"])
def test_a_name_that_is_no_reason_is_refused_with_those_that_are(word):
    with pytest.raises(SettingError, match=rf"'{word}' is no reason.*dns_failure"):
        retry_reasons(word)


@pytest.mark.parametrize(("value", "reasons"), [("", ()), ([], ()), ("http_5xx", ("http_5xx",)), (["deadline"],) * 2])
def test_a_run_s_config_is_a_word_or_a_list(value, reasons):
    assert asked_in_config(value) == tuple(reasons)


@pytest.mark.parametrize("value", [7, {"failed": 1}, [1], None])
def test_another_value_in_a_run_s_config_is_refused(value):
    with pytest.raises(SettingError, match="retry is"):
        asked_in_config(value)
