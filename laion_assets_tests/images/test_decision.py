"""`decide`: the whole decision for one URL, by the same path as a shard's rows."""

import json

import pytest

from laion_assets.images.decision import decide
from laion_assets_tests.images.pictures import jpeg
from laion_assets_tests.images.shards import dataset_of
from laion_assets_tests.images.site import answer, running

PAGES = {
    "/a.jpg": answer(jpeg(640, 480)),
    "/to-a": answer(b"", "302 Found", "Location: http://other.test/a.jpg"),
    "/to-home": answer(b"", "302 Found", "Location: http://127.0.0.1/a.jpg"),
    "/html.jpg": answer(b"<html>"),
    "/gone": answer(b"", "410 Gone"),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    with running(PAGES) as site:
        yield dataset_of(tmp_path_factory.mktemp("decision"), [], site.resolve)


def test_a_picture(dataset):
    decision = decide("http://photos.test/to-a", dataset)
    assert json.loads(json.dumps(decision)) == decision
    address = dataset.resolve["*.test"]
    expected = {
        "status": "success", "reason": "success", "final_url": "http://other.test/a.jpg", "http_status": 200,
        "bytes": len(jpeg(640, 480)), "original_width": 640, "original_height": 480, "width": 256, "height": 256,
        "attempts": 1, "detail": "",
        "hops": [
            {"url": "http://photos.test/to-a", "address": address, "http_status": 302},
            {"url": "http://other.test/a.jpg", "address": address, "http_status": 200},
        ],
    }  # fmt: skip
    assert {name: decision[name] for name in expected} == expected
    assert decision["seconds"] < 2


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
    for url in (f"http://{dataset.resolve['*.test']}/a.jpg", "http://localhost:8000/", "http://[::1]/"):
        assert decide(url)["reason"] == "blocked_address"
    assert decide("file:///etc/passwd")["reason"] == "unsupported_scheme"
