"""A stored image is returned only for the row that it belongs to."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from laion_assets.dataset.identity import compute_uid
from laion_assets.dataset.layout import Layout
from laion_assets.errors import IntegrityError
from laion_assets.search.stored_images import read_stored_image
from laion_assets.store.store import Store

LAYOUT = Layout(parquet_files=1, shards=1, embedding_files=1, rows_per_shard=10)
URL, CAPTION, KEY = "http://a.test/1.jpg", "a cat", "000000000"
UID = compute_uid(URL, CAPTION)


def write_shard(root: Path, fields: object) -> Store:
    members = {"jpg": b"image", "json": json.dumps(fields).encode()}
    (root / "image_shards").mkdir()
    with tarfile.open(root / "image_shards" / "00000.tar", "w") as tar:
        for extension, content in members.items():
            member = tarfile.TarInfo(f"{KEY}.{extension}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return Store(str(root))


@pytest.mark.parametrize(
    "fields",
    [{"uid": UID}, {"url": URL, "caption": CAPTION}, {"uid": None, "url": URL, "caption": CAPTION}],
    ids=["with a uid", "of img2dataset, without a uid", "with an empty uid"],
)
def test_image_of_the_row_is_returned(tmp_path: Path, fields: object) -> None:
    found = read_stored_image(write_shard(tmp_path, fields), LAYOUT, KEY, UID)
    assert (found.content, found.format) == (b"image", "jpg")


@pytest.mark.parametrize(
    "fields",
    [{"uid": compute_uid(URL, "a dog")}, {"url": URL, "caption": "a dog"}, {}, [], {"url": 5, "caption": {}}],
    ids=["another uid", "another caption", "nothing", "no object", "other types"],
)
def test_image_of_another_row_is_refused(tmp_path: Path, fields: object) -> None:
    with pytest.raises(IntegrityError, match="another row at 000000000"):
        read_stored_image(write_shard(tmp_path, fields), LAYOUT, KEY, UID)
