"""Single samples of a tar are read by the offsets of its index; without a correct index the tar is scanned."""

import io
import json
import tarfile
from pathlib import Path
from typing import IO

import pytest
from PIL import Image

from laion_assets.errors import IntegrityError
from laion_assets.search.results.safety import may_be_published
from laion_assets.search.shard_images import shard_contact_sheet
from laion_assets.search.shard_samples import ShardSamples, read_samples
from laion_assets.stages.image_shards.shard.sample_tar import END_OF_ARCHIVE, write_member
from laion_assets.stages.image_shards.shard.tar_index import build_index, find_sample, write_index
from laion_assets.store.store import Store
from laion_assets_tests.stages.clip_embeddings.small_dataset import make_jpeg

ROWS = 40
TAR = "image_shards/00000.tar"


def write_shard(root: Path, rows: int = ROWS, tags: dict[int, str | None] | None = None, shift: int = 0) -> Store:
    """Write a tar of `rows` samples with its index. `tags` are the NSFW tags of the rows that are not UNLIKELY."""
    path = root / TAR
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as tar:
        for row in range(rows):
            fields = {"key": f"{row:09d}", "NSFW": (tags or {}).get(row, "UNLIKELY")}
            parts = {"jpg": make_jpeg(row + shift), "json": json.dumps(fields).encode(), "txt": b"caption"}
            for suffix, content in parts.items():
                write_member(tar, f"{row:09d}.{suffix}", content)
        tar.write(END_OF_ARCHIVE)
    write_index(path, path.with_suffix(".idx"))
    return Store(str(root))


def image_of(samples: ShardSamples, row: int) -> bytes:
    members = samples.find(f"{row:09d}")
    if not members:
        raise IntegrityError("no such sample")
    return samples.read(members[0])


class Counting(io.BytesIO):
    """A tar in memory that counts the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self.count += len(content)
        return content


def test_a_sample_is_read_without_the_tar_before_it(tmp_path: Path) -> None:
    write_shard(tmp_path)
    tar = Counting((tmp_path / TAR).read_bytes())
    index = build_index(tar)
    for row in (ROWS - 1, 0, 17):
        tar.count = 0
        assert image_of(ShardSamples(tar, index), row) == make_jpeg(row)
        assert tar.count == tarfile.BLOCKSIZE + len(make_jpeg(row))


def test_index_and_scan_find_the_same_samples(tmp_path: Path) -> None:
    write_shard(tmp_path)
    with (tmp_path / TAR).open("rb") as tar:
        indexed, scanned = ShardSamples(tar, build_index(tar)), ShardSamples(tar, None)
        assert list(indexed) == list(scanned)
        assert len(list(scanned)) == ROWS
        for key in ("000000000", "000000039", "000000040", "00000000", "jpg"):
            assert indexed.find(key) == scanned.find(key)


def _remove(index: Path) -> None:
    index.unlink()


def _truncate(index: Path) -> None:
    index.write_text(index.read_text()[:300])


def _garble(index: Path) -> None:
    index.write_bytes(b"\xff" * 500)


def _shift(index: Path) -> None:
    index.write_text(index.read_text().replace("jpg ", "jpg 1"))


def _swap(index: Path) -> None:
    """Exchange the offsets of two samples."""
    lines = index.read_text().splitlines()
    first, second = (line.split(" ") for line in (lines[18], lines[19]))
    first[1:3], second[1:3] = second[1:3], first[1:3]
    lines[18:20] = [" ".join(first), " ".join(second)]
    index.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("damage", [_remove, _truncate, _garble, _shift, _swap])
def test_a_missing_or_wrong_index_never_gives_another_image(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    store = write_shard(tmp_path)
    expected = shard_contact_sheet(store, TAR, tiles=ROWS)
    damage((tmp_path / TAR).with_suffix(".idx"))
    for row in (17, 18, ROWS - 1):
        assert read_samples(store, TAR, lambda samples, row=row: image_of(samples, row)) == make_jpeg(row)
    assert shard_contact_sheet(store, TAR, tiles=ROWS) == expected


def test_the_index_of_another_tar_is_not_used(tmp_path: Path) -> None:
    store = write_shard(tmp_path)
    old = (tmp_path / TAR).with_suffix(".idx").read_bytes()
    write_shard(tmp_path, shift=500)
    (tmp_path / TAR).with_suffix(".idx").write_bytes(old)
    for row in (0, 30):
        assert read_samples(store, TAR, lambda samples, row=row: image_of(samples, row)) == make_jpeg(row + 500)


def test_a_sample_that_the_index_leaves_out_is_found(tmp_path: Path) -> None:
    store = write_shard(tmp_path)
    (tmp_path / TAR).with_suffix(".idx").write_text("v1.2 0\n")
    assert read_samples(store, TAR, lambda samples: image_of(samples, 17)) == make_jpeg(17)


def test_a_sample_that_does_not_exist_is_searched_in_the_tar_too(tmp_path: Path) -> None:
    store = write_shard(tmp_path)
    tried: list[bool] = []

    def read(samples: ShardSamples) -> bytes:
        tried.append(samples._index is not None)
        return image_of(samples, ROWS)

    with pytest.raises(IntegrityError, match="no such sample"):
        read_samples(store, TAR, read)
    assert tried == [True, False]


def test_only_the_json_of_images_that_are_not_shown_is_read(tmp_path: Path) -> None:
    tags = {row: ("UNSURE", "NSFW")[row % 2] for row in range(ROWS) if row != 33}
    store = write_shard(tmp_path, tags=tags)
    opened: list[Counting] = []

    class Counted(Store):
        def open(self, path: str) -> IO[bytes]:
            opened.append(Counting((tmp_path / path).read_bytes()))
            return opened[-1]

    assert shard_contact_sheet(Counted(str(tmp_path)), TAR) == shard_contact_sheet(store, TAR)
    assert len(opened) == 1
    assert opened[0].count < ROWS * (tarfile.BLOCKSIZE + 100) + 2 * len(make_jpeg(33))


def test_one_line_of_an_index_is_found_by_its_key() -> None:
    text = "v1.2 2\njpg 512 600 1.jpg json 2048 2 1.json\nseg.png 3072 0 21.seg.png txt 3584 1 21.txt\n"
    assert [member.name for member in find_sample(text, "21")] == ["21.seg.png", "21.txt"]
    assert [member.offset for member in find_sample(text, "1")] == [512, 2048]
    assert find_sample(text, "2") == []
    with pytest.raises(IntegrityError, match="Line 3"):
        find_sample(text.replace("3584", "03584"), "21")


def test_images_without_a_tag_are_on_the_contact_sheet_only_on_request(tmp_path: Path) -> None:
    store = write_shard(tmp_path, rows=4, tags={0: None, 1: "NSFW", 2: "", 3: "UNSURE"})
    assert shard_contact_sheet(store, TAR) == b""
    with Image.open(io.BytesIO(shard_contact_sheet(store, TAR, show_untagged=True))) as sheet:
        assert sheet.width == 2 * sheet.height, "rows 0 and 2"
    assert not may_be_published({"NSFW": "UNSURE"}, show_untagged=True)
    assert may_be_published({}, show_untagged=True)
    assert not may_be_published({}, show_untagged=False)
