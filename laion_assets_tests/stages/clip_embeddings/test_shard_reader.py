"""A shard is read whole and unaltered, or refused by name of shard and member."""

import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IntegrityError
from laion_assets.stages.clip_embeddings.shard_reader import ShardSample, read_shard, success_keys, tar_keys
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.store.store import Store
from laion_assets_tests.stages.clip_embeddings.small_dataset import (
    LAYOUT,
    Members,
    commit_shard,
    make_jpeg,
    sample_fields,
)


def read(dataset: Dataset, shard: int = 0) -> list[ShardSample]:
    store = Store.of(dataset)
    manifest = ImageShards(store, LAYOUT, (shard,)).manifest(shard)
    return list(read_shard(store, LAYOUT, shard, manifest))


def tar_of(dataset: Dataset, shard: int = 0):
    return Store.of(dataset).local_root / ImageShards.path(LAYOUT, shard, ".tar")


def test_samples_come_in_the_order_of_the_tar(bare: Dataset) -> None:
    commit_shard(bare, 0, 12, failures=[4])
    samples = read(bare)
    assert [sample.key for sample in samples] == [LAYOUT.sample_key(0, row) for row in range(12) if row != 4]
    assert samples[3].image == make_jpeg(3)
    assert samples[3].caption == sample_fields(0, 3)["caption"]
    assert samples[3].uid == sample_fields(0, 3)["uid"]
    assert samples[3].fields["url"] == "http://photos-00.test/3.jpg"
    assert success_keys(Store.of(bare), LAYOUT, 0) == tar_keys(Store.of(bare), LAYOUT, 0) == [s.key for s in samples]


def test_a_shard_in_which_nothing_succeeded_has_no_samples(bare: Dataset) -> None:
    commit_shard(bare, 0, 3, failures=[0, 1, 2])
    commit_shard(bare, 1, 0)
    assert read(bare, 0) == read(bare, 1) == []


def test_truncated_tar_is_rejected(built: Dataset) -> None:
    tar = tar_of(built)
    tar.write_bytes(tar.read_bytes()[:-30_000])
    with pytest.raises(IntegrityError, match=r"00000\.tar.*member 0000000\d\d is missing"):
        read(built)


@pytest.mark.parametrize("place", [100, 5_000, 40_000])
def test_one_altered_byte_is_rejected(built: Dataset, place: int) -> None:
    tar = tar_of(built)
    content = bytearray(tar.read_bytes())
    content[place] ^= 0xFF
    tar.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"00000\.tar"):
        read(built)


def without(members: Members, *names: str) -> Members:
    return [member for member in members if member[0] not in names]


CHANGES = {
    "a dropped sample": (
        lambda m: without(m, *[f"000000005.{s}" for s in ("jpg", "json", "txt")]),
        "000000005 is missing",
    ),
    "a dropped image": (lambda m: without(m, "000000005.jpg"), r"000000005\.jpg is missing"),
    "a dropped caption": (lambda m: without(m, "000000005.txt"), r"000000005\.txt is missing"),
    "a duplicate sample": (lambda m: m + m[15:18], r"000000005\.jpg is duplicated"),
    "a duplicate member": (lambda m: m[:16] + m[15:], r"000000005\.jpg is duplicated"),
    "a foreign member": (lambda m: [*m, ("notes.md", b"hello")], r"unexpected member notes\.md"),
    "another's json": (
        lambda m: [*m[:16], ("000000005.json", m[13][1]), *m[17:]],
        r"000000005\.json.*its key is 000000004",
    ),
    "a truncated json": (lambda m: [*m[:16], ("000000005.json", m[16][1][:-5]), *m[17:]], r"000000005\.json"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_invalid_tar_is_rejected_naming_shard_and_member(bare: Dataset, change: str) -> None:
    altered, message = CHANGES[change]
    commit_shard(bare, 0, 9, change=altered)
    with pytest.raises(IntegrityError, match=rf"00000\.tar.*{message}"):
        read(bare)


def test_member_removed_after_the_commit_is_named(bare: Dataset, tmp_path_factory: pytest.TempPathFactory) -> None:
    commit_shard(bare, 0, 9)
    before = tar_of(bare)
    from laion_assets_tests.stages.clip_embeddings.small_dataset import small_dataset

    other = small_dataset(tmp_path_factory.mktemp("other"))
    commit_shard(other, 0, 9, change=CHANGES["a dropped sample"][0])
    before.write_bytes(tar_of(other).read_bytes())
    with pytest.raises(IntegrityError, match=r"00000\.tar.*member 000000005 is missing.*Materialize"):
        read(bare)
