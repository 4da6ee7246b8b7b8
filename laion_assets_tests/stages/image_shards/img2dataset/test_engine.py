"""Shards built with img2dataset's Downloader keep every promise of a shard: guard, invariant, order, commit, retry."""

import errno
import io
import json
import tarfile
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from laion_assets.errors import ShardError
from laion_assets.stages.image_shards.img2dataset import guarded_downloader
from laion_assets.stages.image_shards.img2dataset.bounded_resizer import BoundedResizer
from laion_assets.stages.image_shards.local_failures import network_memory
from laion_assets.stages.image_shards.shard.columns import shard_schema
from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets.stages.image_shards.shard.writer import ShardWriter
from laion_assets.store.store import Store
from laion_assets_tests.stages.image_shards.images import encode, jpeg, scene
from laion_assets_tests.stages.image_shards.local_failures.test_local_failures import (
    EVERY_PAGE,
    HASTY,
    PAGES,
    ROWS,
    check_refused,
)
from laion_assets_tests.stages.image_shards.shards import IMAGES, committed_files, dataset_of
from laion_assets_tests.stages.image_shards.site import answer, running

STOCK = replace(IMAGES, engine="img2dataset")


@pytest.fixture(autouse=True)
def _forget():
    """Each test is a new process to the memory of the network."""
    network_memory._memories.clear()


def rows_of(pages):
    return [(f"http://photos.test{path}", f"caption of {path}") for path in pages]


def table_of(dataset, shard="00000"):
    return pq.read_table(io.BytesIO(committed_files(dataset)[f"{shard}.parquet"]))


def reasons_of(dataset):
    return {row["url"].partition(".test")[2] or row["url"]: row["reason"] for row in table_of(dataset).to_pylist()}


MIXED = {f"/{n}.jpg": answer(jpeg(90 + 40 * n, 80, n)) for n in range(12)} | {
    "/gone.jpg": answer(b"", "404 Not Found"),
    "/page.jpg": answer(b"<html>not an image</html>"),
    "/cut.jpg": answer(jpeg()[:400]),
    "/empty.jpg": answer(b""),
    "/small.png": answer(encode(scene(3, 90), "PNG")),
    "/moved.jpg": answer(b"", "302 Found", "Location: /1.jpg"),
}


def test_shard_has_each_row_in_key_order_with_its_reason(tmp_path):
    with running(MIXED) as site:
        dataset = dataset_of(tmp_path, rows_of(MIXED), site.resolve, images=STOCK)
        outcome = ShardTask(dataset, 0).run()
    failed = {"/gone.jpg": "http_404", "/page.jpg": "not_an_image", "/cut.jpg": "undecodable",
              "/empty.jpg": "no_content", "/small.png": "image_too_small"}  # fmt: skip
    assert reasons_of(dataset) == {path: failed.get(path, "success") for path in MIXED}
    assert (outcome.rows, outcome.successes, sum(outcome.reasons.values())) == (18, 13, 5)
    table = table_of(dataset)
    assert table.schema.equals(shard_schema(STOCK))
    keys = table.column("key").to_pylist()
    assert keys == [f"{number:09d}" for number in range(18)]
    with tarfile.open(fileobj=io.BytesIO(committed_files(dataset)["00000.tar"])) as archive:
        names = archive.getnames()
    successes = [row["key"] for row in table.to_pylist() if row["status"] == "success"]
    assert names == [f"{key}.{suffix}" for key in successes for suffix in ("jpg", "json", "txt")]
    for row in table.to_pylist():
        assert (row["error_message"] or "success").partition(":")[0] == row["reason"]


def test_files_are_the_same_in_every_run_for_any_order_of_rows(tmp_path):
    found = []
    for run, threads in enumerate((16, 1)):
        with running(MIXED) as site:
            images = replace(STOCK, threads=threads)
            dataset = dataset_of(tmp_path / str(run), rows_of(MIXED), site.resolve, images=images)
            ShardTask(dataset, 0).run()
        found.append(committed_files(dataset))
    assert found[0] == found[1]


def test_no_row_reaches_an_address_that_the_guard_refuses(tmp_path):
    with running({}) as private:
        inward = f"http://127.0.0.1:{private.port}/x.jpg"
        pages = {"/1.jpg": answer(jpeg()), "/in.jpg": answer(b"", "302 Found", f"Location: {inward}")}
        rows = [*rows_of(pages), (inward, ""), ("http://10.0.0.1/", ""), ("http://169.254.169.254/", ""),
                ("http://[::1]/", ""), ("file:///etc/passwd", ""), ("http://user@photos.test/1.jpg", "")]  # fmt: skip
        with running(pages) as site:
            dataset = dataset_of(tmp_path, rows, {"photos.test": f"127.0.0.1:{site.port}"}, images=STOCK)
            ShardTask(dataset, 0).run()
        assert private.connections == 0
    found = [row["reason"] for row in table_of(dataset).to_pylist()]
    assert found == ["success", *["blocked_address"] * 5, "unsupported_scheme", "invalid_url"]


def test_row_that_img2dataset_loses_is_counted_as_internal(tmp_path, monkeypatch):
    resize = BoundedResizer.__call__

    def fail_once(self, stream, boxes=None):
        if stream.getvalue() == jpeg(90 + 40 * 3, 80, 3):
            raise RuntimeError("a defect of a callback")
        return resize(self, stream, boxes)

    monkeypatch.setattr(BoundedResizer, "__call__", fail_once)
    with running(MIXED) as site:
        dataset = dataset_of(tmp_path, rows_of(MIXED), site.resolve, images=STOCK)
        outcome = ShardTask(dataset, 0).run()
    assert reasons_of(dataset)["/3.jpg"] == "internal"
    assert (outcome.rows, outcome.successes) == (18, 12)


def test_full_disk_fails_the_shard_and_commits_nothing(tmp_path, monkeypatch):
    def fail(self, row, reason, picture=None):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ShardWriter, "add", fail)
    rows = [(f"http://photos.test/{n}.jpg", "") for n in range(500)]
    with running(dict.fromkeys((f"/{n}.jpg" for n in range(500)), answer(jpeg()))) as site:
        dataset = dataset_of(tmp_path, rows, site.resolve, images=STOCK)
        with pytest.raises(OSError, match="No space left"):
            ShardTask(dataset, 0).run()
        assert len(site.seen) < 100
    assert Store.of(dataset).names("image_shards") == []


@pytest.mark.parametrize("kind", EVERY_PAGE)
def test_shard_whose_sites_all_fail_alike_is_not_committed(kind, tmp_path):
    page, reason = EVERY_PAGE[kind]
    with running(dict.fromkeys(PAGES, page)) as site:
        dataset = dataset_of(tmp_path, ROWS, site.resolve, images=replace(HASTY, engine="img2dataset"))
        check_refused(dataset, rf"unrelated sites failed .*{reason} \d+")


def test_rows_that_failed_in_a_short_interruption_are_fetched_again(tmp_path):
    answers = dict(PAGES)
    with running(answers) as site:
        images = replace(HASTY, engine="img2dataset", threads=1)
        down = [f"/{number}.jpg" for number in range(10, 20)]

        def recover(sock):
            site.pages.update(PAGES)
            PAGES["/20.jpg"](sock)

        site.pages.update(dict.fromkeys(down, EVERY_PAGE["resets"][0]))
        site.pages["/20.jpg"] = recover
        dataset = dataset_of(tmp_path, ROWS, site.resolve, images=images)
        assert ShardTask(dataset, 0).run().successes == len(ROWS)
        assert all(site.seen.count(path) == 2 for path in down)


def test_retry_fetches_failed_rows_again_and_produces_the_bytes_of_an_undisturbed_run(tmp_path):
    down = MIXED | {"/4.jpg": answer(b"", "503 Service Unavailable")}
    with running(dict(MIXED)) as site:
        whole = dataset_of(tmp_path / "whole", rows_of(MIXED), site.resolve, images=STOCK)
        ShardTask(whole, 0).run()
        site.pages.update(down)
        dataset = dataset_of(tmp_path / "retried", rows_of(MIXED), site.resolve, images=STOCK)
        assert ShardTask(dataset, 0).run().successes == 12
        site.pages.update(MIXED)
        site.seen.clear()
        outcome = ShardTask(dataset, 0, retry=("http_5xx",)).run()
        assert (outcome.retried, outcome.recovered, site.seen) == (1, 1, ["/4.jpg"])
    assert committed_files(dataset) == committed_files(whole)


def test_tries_of_a_row_are_those_of_the_settings(tmp_path):
    with running({"/1.jpg": answer(b"", "500 Error")}) as site:
        dataset = dataset_of(
            tmp_path, rows_of(["/1.jpg"]), site.resolve, images=replace(STOCK, fetch=replace(STOCK.fetch, retries=2))
        )
        outcome = ShardTask(dataset, 0).run()
        assert site.seen == ["/1.jpg"] * 3
    assert outcome.reasons == {"http_5xx": 1}
    assert outcome.manifest.details["attempts"] == 3


def test_personal_exif_is_left_out_unless_the_settings_keep_it(tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Camera Maker", 1
    pages = {"/1.jpg": answer(encode(scene(90, 80), "JPEG", exif=exif))}
    found = []
    with running(pages) as site:
        for keep in (False, True):
            images = replace(STOCK, keep_personal_exif=keep)
            dataset = dataset_of(tmp_path / str(keep), rows_of(pages), site.resolve, images=images)
            ShardTask(dataset, 0).run()
            found.append(json.loads(table_of(dataset).column("exif")[0].as_py()))
    assert found == [
        {"Image Orientation": "Horizontal (normal)"},
        {"Image Make": "Camera Maker", "Image Orientation": "Horizontal (normal)"},
    ]


def test_image_of_more_pixels_than_the_limit_is_refused_before_it_is_decoded(tmp_path):
    pages = {"/1.png": answer(encode(scene(90, 80), "PNG"))}
    with running(pages) as site:
        images = replace(STOCK, max_pixels=4_096)
        dataset = dataset_of(tmp_path, rows_of(pages), site.resolve, images=images)
        assert ShardTask(dataset, 0).run().reasons == {"too_many_pixels": 1}


@pytest.mark.parametrize(("kind", "digest"), [("png", "md5"), ("webp", "none")])
def test_formats_hashes_and_columns_are_those_of_the_settings(kind, digest, tmp_path):
    images = replace(
        STOCK, encode_format=kind, encode_quality=9, compute_hash=digest, extract_exif=False, additional_columns=()
    )
    with running(MIXED) as site:
        dataset = dataset_of(tmp_path, rows_of(MIXED), site.resolve, images=images)
        assert ShardTask(dataset, 0).run().successes == 13
    assert table_of(dataset).schema.equals(shard_schema(images))


def test_empty_shard_is_valid(tmp_path):
    dataset = dataset_of(tmp_path, [], {}, images=STOCK)
    assert ShardTask(dataset, 0).run().rows == 0


def test_another_version_of_img2dataset_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(guarded_downloader, "VERSION", "1.46.0")
    with running(MIXED) as site:
        dataset = dataset_of(tmp_path, rows_of(MIXED), site.resolve, images=STOCK)
        with pytest.raises(ShardError, match=r"img2dataset 1\.47\.0 is installed.*1\.46\.0 only"):
            ShardTask(dataset, 0).run()
        assert site.seen == []
