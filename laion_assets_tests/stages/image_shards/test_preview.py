"""The dry run of one URL, by the same path as a shard's rows."""

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


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    with running(PAGES) as site:
        yield dataset_of(tmp_path_factory.mktemp("preview"), [], site.resolve)


def test_an_image_is_fetched_and_resized(dataset):
    preview = preview_url("http://photos.test/to-a", dataset)
    as_json = json.loads(json.dumps(asdict(preview)))
    address = dataset.resolve["*.test"]
    expected = {
        "status": "success", "reason": "success", "final_url": "http://other.test/a.jpg", "http_status": 200,
        "bytes": len(jpeg(640, 480)), "original_width": 640, "original_height": 480, "width": 256, "height": 256,
        "attempts": 1, "detail": "", "consent": [],
    }  # fmt: skip
    assert {name: as_json[name] for name in expected} == expected
    assert preview.seconds < 2
    verdict = {"address": address, "verdict": "allowed: a site of resolve"}
    for hop, url, status in zip(
        preview.hops, ("http://photos.test/to-a", "http://other.test/a.jpg"), (302, 200), strict=True
    ):
        assert (hop.url, hop.http_status, hop.address, hop.addresses) == (url, status, address, (verdict,))
        assert (hop.connection_reused, hop.robots_txt) == (False, "not requested: images.fetch.robots_txt is off")
        assert hop.seconds["tls"] is None
        assert {name for name, seconds in hop.seconds.items() if seconds is not None} >= {
            "dns", "waited", "connect", "first_byte"
        }  # fmt: skip
    assert preview.hops[-1].seconds["body"] < 1


def test_opt_out_headers_are_shown_unchanged(dataset):
    preview = preview_url("http://photos.test/no.jpg", dataset)
    assert (preview.reason, preview.detail) == ("opted_out", "Content-Usage: train-ai=n")
    assert preview.consent == ("x-robots-tag: otherbot: noai", "content-usage: train-ai=n")
    careful = replace(dataset, images=replace(dataset.images, fetch=replace(dataset.images.fetch, robots_txt=True)))
    preview = preview_url("http://photos.test/private/a.jpg", careful)
    assert (preview.reason, preview.http_status) == ("opted_out", None)
    assert preview.hops[0].robots_txt == "robots.txt disallows the path"
    assert preview_url("http://photos.test/a.jpg", careful).hops[0].robots_txt == "allowed"


def test_each_address_of_a_host_has_its_verdict():
    hop = preview_url("http://[::ffff:10.0.0.1]/a.jpg").hops[0]
    assert hop.addresses[0]["address"] == "::ffff:a00:1"
    assert "private, RFC 1918" in hop.addresses[0]["verdict"]


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
def test_failures_have_a_status_and_a_reason(url, status, reason, dataset):
    preview = preview_url(url, dataset)
    assert (preview.status, preview.reason, preview.width) == (status, reason, None)
    assert preview.detail


def test_without_a_dataset_the_strict_policy_applies(dataset):
    for url in (f"http://{dataset.resolve['*.test']}/a.jpg", "http://localhost/", "http://[::1]:8000/"):
        assert preview_url(url).reason == "blocked_address"
    assert preview_url("file:///etc/passwd").reason == "unsupported_scheme"
