"""`make bench-images` with small inputs: it runs to the end, and reports and fails if outputs differ."""

import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

BENCH = Path(__file__).parents[2] / "bench"
KEYS = ("000000000", "000000001")


@pytest.fixture
def module(monkeypatch):
    """Import a module of the bench folder, which is not a package."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


@pytest.mark.bench
def test_a_small_bench_over_https_ends_in_equal_outputs_and_a_line_of_json():
    options = ["--scheme", "https", "--https-count", "24", "--photos", "12", "--hosts", "20", "--rounds", "1"]
    ended = subprocess.run(
        [sys.executable, str(BENCH / "images.py"), *options, "--start-up-rounds", "0", "--no-growth", "--no-steps",
         "--cores", "1"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    result = json.loads(ended.stdout.splitlines()[-1])
    assert result["bench"] == "images"
    assert result["https"]["ratio"] == pytest.approx(result["ours"] / result["peer"], rel=0.01)
    assert result["differences"] == 0
    assert result["images_compared"] >= 20
    assert result["psnr_min"] is None or result["psnr_min"] > 30


@pytest.mark.bench
@pytest.mark.parametrize("side", ["ours", "img2dataset"])
def test_the_steps_of_a_shard_add_up_to_the_cpu_of_its_process(module, tmp_path, side):
    photos = module("photographs").make_photos(tmp_path / "photos", 8, seed=2)
    with module("photo_site").running(tmp_path / "photos", tmp_path / "nginx", hosts=4, workers=1) as site:
        rows = module("image_rows").make_rows(site, "http", photos, count=16, shards=1, seed=3)
        module("image_sides").prepare(side, rows, site.resolve("http"), tmp_path / side, 1)
        steps = module("image_steps").take_steps(tmp_path / side)
    own = {"verify", "commit", "header"} if side == "ours" else set()
    assert {"fetch", "decode", "resize", "encode", "exif", "hash", "write", "all"} | own <= set(steps)
    cpu = {step: times["cpu_ms"] for step, times in steps.items()}
    assert cpu.pop("all") == pytest.approx(sum(cpu.values()), abs=0.01)


def make_jpeg(shade):
    image = np.full((256, 256, 3), 255, np.uint8)
    image[64:192] = shade
    return cv2.imencode(".png", image)[1].tobytes()


def write_shard(folder, change=lambda rows, members: None, ours=True):
    """A shard of two rows whose photos are 200 x 100; `change` may alter rows and members before they are written."""
    rows = [
        {"caption": f"photo {key}", "key": key, "status": "success", "original_width": 200, "original_height": 100,
         "exif": "{}", "sha256": "00"} | ({"reason": "success"} if ours else {})
        for key in KEYS
    ]  # fmt: skip
    members = {}
    for row in rows:
        sample = {name: value for name, value in row.items() if name != "reason"}
        members |= {f"{row['key']}.jpg": make_jpeg(100), f"{row['key']}.json": json.dumps(sample).encode()}
        members[f"{row['key']}.txt"] = row["caption"].encode()
    change(rows, members)
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "00000.parquet")
    with tarfile.open(folder / "00000.tar", "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def other_caption(rows, members):
    members[f"{KEYS[1]}.txt"] = b"another photo"


def other_value(rows, members):
    rows[0]["sha256"] = "11"


def other_json(rows, members):
    members[f"{KEYS[0]}.json"] = members[f"{KEYS[0]}.json"].replace(b'"sha256": "00"', b'"sha256": "11"')


def other_column(rows, members):
    rows[:] = [{"url": "u", **row} for row in rows]


def other_type(rows, members):
    rows[:] = [{**row, "original_width": 200.0} for row in rows]


def lost_row(rows, members):
    del rows[1]


def lost_member(rows, members):
    del members[f"{KEYS[1]}.json"]


def other_shape(rows, members):
    members[f"{KEYS[0]}.jpg"] = cv2.imencode(".png", np.zeros((128, 128, 3), np.uint8))[1].tobytes()


@pytest.mark.parametrize(
    "change",
    [other_caption, other_value, other_json, other_column, other_type, lost_row, lost_member, other_shape],
)
def test_every_kind_of_difference_is_found(module, tmp_path, change):
    write_shard(tmp_path / "ours", change)
    write_shard(tmp_path / "stock", ours=False)
    found = module("image_outputs").compare(tmp_path / "ours", tmp_path / "stock")
    assert found.differences
    assert "DIFFERENCES" in found.describe()


def test_equal_shards_differ_in_nothing_and_other_pixels_are_measured_without_the_border(module, tmp_path):
    def other_pixels(rows, members):
        members[f"{KEYS[1]}.jpg"] = make_jpeg(110)
        rows[0]["exif"] = '{"Image Orientation": "1"}'

    write_shard(tmp_path / "stock", ours=False)
    write_shard(tmp_path / "same")
    write_shard(tmp_path / "other", other_pixels)
    outputs = module("image_outputs")
    assert outputs.compare(tmp_path / "same", tmp_path / "stock") == outputs.Comparison(2, 2, {}, [])
    found = outputs.compare(tmp_path / "other", tmp_path / "stock")
    assert (found.differences, list(found.psnr)) == ([], [KEYS[1]])
    assert found.psnr_min == pytest.approx(20 * np.log10(255 / 10))


def test_a_bench_whose_outputs_differ_ends_with_status_1(module, tmp_path, monkeypatch):
    """The runs are faked and the site is never requested, so that this test needs no nginx."""
    images, sides, photo_site = module("images"), module("image_sides"), module("photo_site")
    write_shard(tmp_path / sides.OURS, other_caption)
    write_shard(tmp_path / sides.STOCK, ours=False)

    def canned(side, rows, *_):
        return sides.Run(side, rows.count, 1.0, sides.Used(1.0, 1.0), tmp_path / side)

    @contextlib.contextmanager
    def silent_site(photos, work, hosts, workers):
        yield photo_site.PhotoSite(photo_site.addresses(hosts), 8080, 8443, tmp_path / "ca.pem", os.getpid())

    monkeypatch.setattr(sides, "run", canned)
    monkeypatch.setattr(images, "running", silent_site)
    options = ["--photos", "2", "--hosts", "2", "--rounds", "1", "--scheme", "http", "--count", "2"]
    ended = CliRunner().invoke(images.main, [*options, "--no-steps", "--no-growth", "--start-up-rounds", "0"])
    assert ended.exit_code == 1, ended.output
    assert json.loads(ended.stdout.splitlines()[-1])["differences"] == 1


def test_photos_have_laions_mix_of_sizes_and_a_natural_weight(module, tmp_path):
    photos = module("photographs").make_photos(tmp_path / "a", 50, seed=1)
    assert sum(photo.longer < 500 for photo in photos) == 25
    assert sum(photo.longer > 1_024 for photo in photos) == 3
    weights = [photo.size / (photo.width * photo.height) for photo in photos if photo.format == "JPEG"]
    assert 0.1 < np.median(weights) < 0.25
    again = module("photographs").make_photos(tmp_path / "b", 50, seed=1)
    assert [(tmp_path / "a" / photo.name).read_bytes() == (tmp_path / "b" / photo.name).read_bytes() for photo in again]
