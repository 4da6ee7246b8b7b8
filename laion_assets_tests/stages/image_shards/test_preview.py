"""`preview_url`: the outcome of one URL, by the same path as the rows of a shard."""

import json
from dataclasses import asdict, replace

import pytest

from laion_assets.stages.image_shards.preview import preview_url
from laion_assets_tests.stages.image_shards.images import jpeg
from laion_assets_tests.stages.image_shards.shards import dataset_of
from laion_assets_tests.stages.image_shards.site import answer, running

PAGES = {
    "/a.jpg": answer(jpeg(640, 480)),
    "/to-a": answer(b"", "302 Found", "Location: http://other.test/a.jpg"),
    "/to-home": answer(b"", "302 Found", "Location: http://127.0.0.1/a.jpg"),
    "/html.jpg": answer(b"<html>"),
    "/no.jpg": answer(jpeg(64, 48), "200 OK", "X-Robots-Tag: otherbot: noai", "Content-Usage: train-ai=n"),
    "/private/a.jpg": answer(jpeg(64, 48)),
    "/robots.txt": answer(b"User-agent: *\nDisallow: /private"),
    "/gone": answer(b"", "410 Gone"),
}


def decide(url, dataset=None):
    """The preview as the command prints it with `--json`."""
    return json.loads(json.dumps(asdict(preview_url(url, dataset))))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    with running(PAGES) as site:
        yield dataset_of(tmp_path_factory.mktemp("decision"), [], site.resolve)


def test_an_image(dataset):
    decision = decide("http://photos.test/to-a", dataset)
    address = dataset.resolve["*.test"]
    expected = {
        "status": "success", "reason": "success", "final_url": "http://other.test/a.jpg", "http_status": 200,
        "bytes": len(jpeg(640, 480)), "original_width": 640, "original_height": 480, "width": 256, "height": 256,
        "attempts": 1, "detail": "", "consent": [],
    }  # fmt: skip
    assert {name: decision[name] for name in expected} == expected
    assert decision["seconds"] < 2
    verdict = {"address": address, "verdict": "allowed: a site of resolve"}
    for hop, url, status in zip(
        decision["hops"], ("http://photos.test/to-a", "http://other.test/a.jpg"), (302, 200), strict=True
    ):
        assert (hop["url"], hop["http_status"], hop["address"], hop["addresses"]) == (url, status, address, [verdict])
        assert (hop["connection_reused"], hop["robots_txt"]) == (False, "not requested: images.fetch.robots_txt is off")
        assert hop["seconds"]["tls"] is None
        assert {name for name, seconds in hop["seconds"].items() if seconds is not None} >= {
            "dns", "waited", "connect", "first_byte"
        }  # fmt: skip
    assert decision["hops"][-1]["seconds"]["body"] < 1


def test_consent_is_shown_as_it_was_sent(dataset):
    decision = decide("http://photos.test/no.jpg", dataset)
    assert (decision["reason"], decision["detail"]) == ("opted_out", "Content-Usage: train-ai=n")
    assert decision["consent"] == ["x-robots-tag: otherbot: noai", "content-usage: train-ai=n"]
    careful = replace(dataset, images=replace(dataset.images, fetch=replace(dataset.images.fetch, robots_txt=True)))
    decision = decide("http://photos.test/private/a.jpg", careful)
    assert (decision["reason"], decision["http_status"]) == ("opted_out", None)
    assert decision["hops"][0]["robots_txt"] == "robots.txt disallows the path"
    assert decide("http://photos.test/a.jpg", careful)["hops"][0]["robots_txt"] == "allowed"


def test_each_address_of_a_host_has_its_verdict():
    hop = decide("http://[::ffff:10.0.0.1]/a.jpg")["hops"][0]
    assert hop["addresses"][0]["address"] == "::ffff:a00:1"
    assert "private, RFC 1918" in hop["addresses"][0]["verdict"]


@pytest.mark.parametrize(
    ("url", "status", "reason"),
    [
        ("http://photos.test/html.jpg", "failed_to_resize", "not_an_image"),
        ("http://photos.test/gone", "failed_to_download", "http_410"),
        ("http://photos.test/to-home", "failed_to_download", "blocked_address"),
        ("http://127.0.0.1/a.jpg", "failed_to_download", "blocked_address"),
        ("photo.jpg", "failed_to_download", "invalid_url"),
    ],
)
def test_refusals(url, status, reason, dataset):
    decision = decide(url, dataset)
    assert (decision["status"], decision["reason"], decision["width"]) == (status, reason, None)
    assert decision["detail"]


def test_without_a_dataset_the_strict_policy_holds(dataset):
    for url in (f"http://{dataset.resolve['*.test']}/a.jpg", "http://localhost/", "http://[::1]:8000/"):
        assert decide(url)["reason"] == "blocked_address"
    assert decide("file:///etc/passwd")["reason"] == "unsupported_scheme"
