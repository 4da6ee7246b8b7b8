"""The members of a shard's tar have the bytes of webdataset's writer."""

import io
import tarfile

import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_assets.stages.image_shards.shard.sample_tar import END_OF_ARCHIVE, find_members, member_header, write_member

KEYS = st.integers(0, 10**9 - 1).map("{:09d}".format)


def written(samples):
    out = io.BytesIO()
    for key, image, caption in samples:
        for name, content in ((f"{key}.jpg", image), (f"{key}.json", b'{"key": 1}'), (f"{key}.txt", caption)):
            write_member(out, name, content)
    out.write(END_OF_ARCHIVE)
    out.write(bytes(-out.tell() % tarfile.RECORDSIZE))
    return out.getvalue()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(KEYS, st.binary(max_size=3_000), st.binary(max_size=600)), max_size=12))
def test_bytes_equal_those_of_webdatasets_writer(samples):
    stock = io.BytesIO()
    with webdataset.TarWriter(stock, mtime=0) as writer:
        for key, image, caption in samples:
            writer.write({"__key__": key, "jpg": image, "json": b'{"key": 1}', "txt": caption})
    assert written(samples) == stock.getvalue()


SAMPLES = [("000000001", b"p" * 700, b""), ("000000007", b"", b"caption")]
NAMES = [f"{key}.{suffix}" for key, _, _ in SAMPLES for suffix in ("jpg", "json", "txt")]


def test_a_valid_tar_has_exactly_its_members():
    contents = {}
    places = find_members(io.BytesIO(written(SAMPLES)), NAMES, contents)
    with tarfile.open(fileobj=io.BytesIO(written(SAMPLES))) as archive:
        assert places == [(member.offset_data, member.size) for member in archive]
    assert contents == {"000000001.json": b'{"key": 1}', "000000007.json": b'{"key": 1}'}
    assert find_members(io.BytesIO(written([])), [], {}) == []


@pytest.mark.parametrize("names", [NAMES[:-1], NAMES[1:], [*NAMES, "000000008.jpg"], NAMES[::-1]])
def test_other_members_are_detected(names):
    assert find_members(io.BytesIO(written(SAMPLES)), names, {}) is None


def test_any_changed_header_or_end_and_any_truncation_is_detected():
    valid = written(SAMPLES)
    header = 3 * 512  # behind the first image, which has two blocks
    data_end = len(valid) - 512 if len(valid) % tarfile.RECORDSIZE else len(valid)
    for place in [*range(512), *range(header, header + 512), data_end - 1]:
        changed = bytearray(valid)
        changed[place] ^= 1
        assert find_members(io.BytesIO(changed), NAMES, {}) is None, place
    for length in [0, 100, 512, header + 5, len(valid) - 1, len(valid) - 512]:
        assert find_members(io.BytesIO(valid[:length]), NAMES, {}) is None, length
    for more in (b"\0", bytes(512), b"x"):
        assert find_members(io.BytesIO(valid + more), NAMES, {}) is None


@pytest.mark.parametrize(("name", "size"), [("", 1), ("n" * 101, 1), ("a", -1), ("a", 8**11), ("ä", 1)])
def test_a_name_or_size_too_large_for_a_header_is_refused(name, size):
    with pytest.raises(ValueError):
        member_header(name, size)
