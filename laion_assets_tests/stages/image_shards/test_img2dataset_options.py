"""img2dataset's options by its names.

Ordinary images have the same bytes as its Resizer's output, contradictory options are refused, and shards are readable.
"""

import io
import json
import tarfile
from dataclasses import replace
from itertools import product

import pyarrow.parquet as pq
import pytest

from laion_assets.errors import SettingError
from laion_assets.stages.clip_embeddings.shard_reader import read_shard, tar_keys
from laion_assets.stages.image_shards.decoding.reencoding import Reencoder
from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets.stages.image_shards.shard.columns import shard_schema
from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets.store.manifest import read_manifest
from laion_assets.store.store import Store
from laion_assets_tests.stages.image_shards.images import encode, jpeg, pixels, scene, stock_tuple
from laion_assets_tests.stages.image_shards.shards import IMAGES, committed_files, dataset_of
from laion_assets_tests.stages.image_shards.site import answer, running

MODES = ("no", "border", "keep_ratio", "keep_ratio_largest", "center_crop")
FORMATS = {"jpg": 95, "png": 9, "webp": 80}
FILTERS = ("nearest", "linear", "bilinear", "cubic", "bicubic", "area", "lanczos", "lanczos4")
IMAGE_FILES = [
    jpeg(640, 431, 1),
    jpeg(100, 180, 2, progressive=True),
    encode(scene(256, 256, 3), "PNG"),
    encode(scene(300, 700, 4), "WEBP", lossless=True),
    encode(scene(90, 256, 5), "BMP"),
]


def both(data, **options):
    """Return (our result, img2dataset's) for one image."""
    from img2dataset.resizer import Resizer

    order = {"image_size": 256, "resize_mode": "border", "resize_only_if_bigger": False, **options}
    ours = Reencoder(ImageSettings(exact_pixels=True, **options))(data)
    return stock_tuple(ours), Resizer(**order)(io.BytesIO(data))


@pytest.mark.parametrize(("mode", "kind"), [*product(MODES, FORMATS)])
def test_every_mode_and_format_equals_img2dataset(mode, kind):
    for data, bigger in product(IMAGE_FILES, (False, True)):
        options = {"resize_mode": mode, "encode_format": kind, "encode_quality": FORMATS[kind]}
        ours, stock = both(data, resize_only_if_bigger=bigger, image_size=200, **options)
        assert ours == stock


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_equals_img2dataset(name):
    for data in IMAGE_FILES[:2]:
        ours, stock = both(data, upscale_interpolation=name, downscale_interpolation=name)
        assert ours == stock


@pytest.mark.parametrize("quality", [0, 1, 50, 100])
@pytest.mark.parametrize("kind", ["jpg", "webp"])
def test_every_quality_equals_img2dataset(kind, quality):
    ours, stock = both(IMAGE_FILES[0], encode_format=kind, encode_quality=quality)
    assert ours == stock


@pytest.mark.parametrize(("mode", "kind"), [*product(("no", "keep_ratio", "border"), FORMATS)])
def test_files_that_need_no_change_are_kept(mode, kind):
    for data in IMAGE_FILES:
        options = {"encode_format": kind, "encode_quality": FORMATS[kind], "resize_mode": mode}
        ours, stock = both(data, skip_reencode=True, resize_only_if_bigger=True, image_size=512, **options)
        assert ours == stock


def test_a_kept_file_is_upright_and_has_no_personal_metadata():
    from PIL import Image

    exif = Image.Exif()
    exif[0x010F] = "Camera Maker"
    personal = encode(scene(100, 80), "JPEG", exif=exif, quality=95)
    kept = {"skip_reencode": True, "resize_mode": "no"}
    assert b"Camera" not in Reencoder(ImageSettings(**kept))(personal).content
    assert Reencoder(ImageSettings(**kept, keep_personal_exif=True))(personal).content == personal
    exif[0x0112] = 6
    turned = encode(scene(100, 80), "JPEG", exif=exif, quality=95)
    image = Reencoder(ImageSettings(**kept, keep_personal_exif=True))(turned)
    assert (image.width, image.height) == (80, 100)
    assert pixels(image.content).shape == (100, 80, 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_image_area": 100.0}, "too_many_pixels"),
        ({"min_image_size": 500}, "image_too_small"),
        ({"max_aspect_ratio": 1.2}, "aspect_ratio"),
    ],
)
def test_limits_equal_img2dataset(options, words):
    ours, stock = both(IMAGE_FILES[0], **options)
    assert ours[:5] == stock[:5] == (None,) * 5
    assert ours[5].startswith(words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encode_format": "png"}, "set it to 0 to 9"),
        ({"encode_format": "gif"}, "must be jpg, png or webp"),
        ({"encode_quality": 101}, "set it to 0 to 100"),
        ({"encode_quality": -1}, "from 0 to 101"),
        ({"resize_mode": "stretch"}, "keep_ratio_largest"),
        ({"downscale_interpolation": "box"}, "lanczos4"),
        ({"compute_hash": "crc32"}, "sha512 or none"),
        ({"disable_all_reencoding": True}, "keep_personal_exif"),
        ({"disable_all_reencoding": True, "keep_personal_exif": True, "skip_reencode": True}, "Set only one"),
        ({"additional_columns": ("uid", "sha256")}, "sha256"),
    ],
    ids=str,
)
def test_contradictory_options_are_refused(options, words):
    with pytest.raises(SettingError, match=words):
        ImageSettings(**options)


@pytest.mark.parametrize(("kind", "digest"), [("png", "md5"), ("webp", "sha512"), ("jpg", "none")])
def test_a_shard_of_each_format_can_be_verified_and_read(tmp_path, kind, digest):
    pages = {f"/{n}.jpg": answer(jpeg(200 + n, 150, n)) for n in range(5)} | {"/5.jpg": answer(b"<html>")}
    rows = [(f"http://photos.test/{n}.jpg", f"image {n}") for n in range(6)]
    images = replace(
        IMAGES, encode_format=kind, encode_quality=min(FORMATS[kind], 90), compute_hash=digest, extract_exif=False
    )
    with running(pages) as site:
        dataset = dataset_of(tmp_path, rows, site.resolve, images=images)
        assert ShardTask(dataset, 0).run().successes == 5
    files = committed_files(dataset)
    table = pq.read_table(io.BytesIO(files["00000.parquet"]))
    assert table.schema.equals(shard_schema(images))
    with tarfile.open(fileobj=io.BytesIO(files["00000.tar"])) as archive:
        names = archive.getnames()
        sample = json.loads(archive.extractfile(next(name for name in names if name.endswith(".json"))).read())
    assert {name.rpartition(".")[2] for name in names} == {kind, "json", "txt"}
    assert "exif" not in sample
    assert (digest in sample) == (digest != "none")
    store = Store.of(dataset)
    samples = list(read_shard(store, dataset.layout, 0, read_manifest(store, "image_shards", "00000")))
    assert [sample.key for sample in samples] == tar_keys(store, dataset.layout, 0)
    assert all(pixels(sample.image).shape == (256, 256, 3) for sample in samples)
