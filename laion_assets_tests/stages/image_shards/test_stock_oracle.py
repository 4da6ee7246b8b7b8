"""The img2dataset program and both engines build the same rows and samples from the same ordinary pages."""

import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets_tests.stages.image_shards.images import encode, jpeg, pixels, scene
from laion_assets_tests.stages.image_shards.shards import IMAGES, committed_files, dataset_of, dedup_table
from laion_assets_tests.stages.image_shards.site import answer, running

PAGES = {
    **{f"/{n}.jpg": answer(jpeg(90 + 31 * n, 600 - 17 * n, n)) for n in range(24)},
    "/p.png": answer(encode(scene(300, 200), "PNG")),
    "/w.webp": answer(encode(scene(300, 200), "WEBP")),
    "/b.bmp": answer(encode(scene(300, 200), "BMP")),
    "/grey.jpg": answer(encode(scene(300, 200).convert("L"), "JPEG")),
    "/html.jpg": answer(b"<html>not found</html>"),
    "/500.jpg": answer(b"", "500 Internal Server Error"),
    "/noai.jpg": answer(jpeg(), "200 OK", "X-Robots-Tag: noai"),
    "/moved.jpg": answer(b"", "302 Found", "Location: /1.jpg"),
}
PATHS = [*PAGES, "/gone.jpg"]
QUIET_ENVIRONMENT = {"NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "disabled", "OPENCV_LOG_LEVEL": "ERROR"}
SCRIPT = """
import sys
from img2dataset import download
if __name__ == "__main__":
    download(
        url_list=sys.argv[1], output_folder=sys.argv[2], input_format="parquet", url_col="URL", caption_col="TEXT",
        output_format="webdataset", processes_count=1, thread_count=16, image_size=256, timeout=5,
        save_additional_columns=["uid", "NSFW", "similarity", "LICENSE"], number_sample_per_shard=10000,
    )
"""


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """The running site, the rows, and the parquet and tar of the img2dataset program."""
    folder = tmp_path_factory.mktemp("oracle")
    with running(PAGES) as site:
        rows = [(f"http://127.0.0.1:{site.port}{path}", f"caption of {path} é") for path in PATHS]
        pq.write_table(dedup_table(rows), folder / "rows.parquet")
        script = folder / "stock.py"
        script.write_text(SCRIPT)
        subprocess.run(
            [sys.executable, str(script), str(folder / "rows.parquet"), str(folder / "stock")],
            check=True, capture_output=True, env={**os.environ, **QUIET_ENVIRONMENT}, timeout=120,
        )  # fmt: skip
        files = {path.name: path.read_bytes() for path in (folder / "stock").iterdir()}
        yield site, rows, files["00000.parquet"], files["00000.tar"]


@pytest.fixture(scope="module", params=["laion_assets", "img2dataset"])
def both(stock, request, tmp_path_factory):
    """(stock parquet, stock tar, our parquet, our tar), ours by each engine."""
    site, rows, *files = stock
    resolve = {"127.0.0.1": f"127.0.0.1:{site.port}"}
    images = replace(IMAGES, fetch=replace(IMAGES.fetch, deadline_s=5.0), exact_pixels=True, engine=request.param)
    dataset = dataset_of(tmp_path_factory.mktemp(request.param), rows, resolve, images=images)
    ShardTask(dataset, 0).run()
    ours = committed_files(dataset)
    return *files, ours["00000.parquet"], ours["00000.tar"]


def members(tar):
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return {info.name: archive.extractfile(info).read() for info in archive}


def test_columns_equal_img2datasets_followed_by_the_reason(both):
    stock, ours = pq.read_schema(io.BytesIO(both[0])), pq.read_schema(io.BytesIO(both[2]))
    assert [(field.name, field.type) for field in ours][:-1] == [(field.name, field.type) for field in stock]
    assert ours.names[-1] == "reason"


def test_rows_are_equal_value_by_value(both):
    stock = {row["key"]: row for row in pq.read_table(io.BytesIO(both[0])).to_pylist()}
    ours = {row["key"]: row for row in pq.read_table(io.BytesIO(both[2])).to_pylist()}
    assert list(ours) == sorted(stock)
    free = {"error_message", "exif", "reason"}
    for key, row in ours.items():
        assert {name: value for name, value in row.items() if name not in free} == {
            name: value for name, value in stock[key].items() if name not in free
        }
    assert sum(row["status"] == "success" for row in ours.values()) == 29


def test_members_are_equal_byte_by_byte(both):
    stock, ours = members(both[1]), members(both[3])
    assert list(ours) == sorted(stock)
    for name, content in ours.items():
        if name.endswith(".json"):
            sample, other = json.loads(content), json.loads(stock[name])
            assert list(sample) == list(other)
            assert {**sample, "exif": 0} == {**other, "exif": 0}
        elif f"{PATHS[int(name[:9])]}" == "/grey.jpg" and name.endswith(".jpg"):
            assert (pixels(content) == pixels(stock[name])).mean() > 0.99
        else:
            assert content == stock[name], name
