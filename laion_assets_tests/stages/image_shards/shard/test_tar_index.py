"""The tar index compared with `tarfile`, and with a reader written only from the description of the format."""

import io
import tarfile
from dataclasses import replace

import pytest

from laion_assets.errors import IntegrityError
from laion_assets.stages.image_shards.shard.sample_tar import END_OF_ARCHIVE, write_member
from laion_assets.stages.image_shards.shard.tar_index import Member, build_index, read_index, read_member
from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets.store.transaction import Transaction
from laion_assets_tests.stages.image_shards.images import jpeg
from laion_assets_tests.stages.image_shards.shards import IMAGES, committed_files, dataset_of
from laion_assets_tests.stages.image_shards.site import answer, running


def described_samples(text, tar):
    """Read the contents of each sample by name, following the description of the format."""
    lines = text.split("\n")
    assert lines.pop() == ""
    version, count = lines.pop(0).split(" ")
    assert (version, int(count)) == ("v1.2", len(lines))
    samples = []
    for line in lines:
        fields = line.split(" ")
        assert len(fields) % 4 == 0
        sample = {}
        for first in range(0, len(fields), 4):
            extension, offset, size, name = fields[first : first + 4]
            assert name.endswith("." + extension)
            sample[name] = tar[int(offset) : int(offset) + int(size)]
        samples.append(sample)
    return samples


def tarfile_samples(tar):
    """Read the same with `tarfile`: consecutive members with the same name before the first dot are a sample."""
    samples = []
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for info in archive:
            if not samples or next(iter(samples[-1])).partition(".")[0] != info.name.partition(".")[0]:
                samples.append({})
            samples[-1][info.name] = archive.extractfile(info).read()
    return samples


def shard(tmp_path, bodies, **settings):
    """Build a shard of these bodies and return its tar. Bodies that are not images are failures."""
    rows = [(f"http://photos.test/{number}.jpg", f"image {number} é") for number in range(len(bodies))]
    with running({f"/{number}.jpg": answer(body) for number, body in enumerate(bodies)}) as site:
        dataset = dataset_of(tmp_path, rows, site.resolve, images=replace(IMAGES, **settings))
        ShardTask(dataset, 0).run()
    files = committed_files(dataset)
    assert files["00000.idx"].decode() == build_index(io.BytesIO(files["00000.tar"]))
    return files["00000.tar"]


FAILURES = [b"<html>", jpeg(80, 60, 1), b"", jpeg(90, 70, 2), jpeg(400, 300, 3), b"GIF89a"]


@pytest.mark.parametrize(("kind", "quality"), [("jpg", 95), ("png", 6), ("webp", 90)])
def test_every_sample_of_a_shard_is_found_by_its_offsets(tmp_path, kind, quality):
    tar = shard(tmp_path, FAILURES, encode_format=kind, encode_quality=quality)
    text = build_index(io.BytesIO(tar))
    samples = described_samples(text, tar)
    assert samples == tarfile_samples(tar)
    assert [list(sample) for sample in samples] == [
        sorted(f"00000000{number}.{suffix}" for suffix in (kind, "json", "txt")) for number in (1, 3, 4)
    ]
    found = [{member.name: read_member(io.BytesIO(tar), member) for member in sample} for sample in read_index(text)]
    assert found == samples


def test_a_shard_without_an_image_has_an_empty_index(tmp_path):
    tar = shard(tmp_path, [b"<html>"])
    assert build_index(io.BytesIO(tar)) == "v1.2 0\n"
    assert read_index("v1.2 0\n") == []


def test_an_index_has_one_line_per_sample():
    tar = io.BytesIO()
    for name, content in (("1.jpg", b"a" * 600), ("1.json", b"{}"), ("2.seg.png", b""), ("2.txt", b"b")):
        write_member(tar, name, content)
    tar.write(END_OF_ARCHIVE)
    text = build_index(tar)
    assert text == "v1.2 2\njpg 512 600 1.jpg json 2048 2 1.json\nseg.png 3072 0 2.seg.png txt 3584 1 2.txt\n"
    assert read_index(text)[1] == [Member("2.seg.png", 3072, 0), Member("2.txt", 3584, 1)]
    assert read_member(tar, Member("2.txt", 3584, 1)) == b"b"


WRONG = {
    "": "ends within a line",
    "v1.2 0": "ends within a line",
    "v1.2 1\n": "expected 'v1.2 0'",
    "v1.1 0\n": "expected 'v1.2 0'",
    "v1.2 1\n\n": "Line 2",
    "v1.2 1\njpg 512 600\n": "Line 2",
    "v1.2 1\njpg 512 -1 1.jpg\n": "Line 2",
    "v1.2 1\npng 512 600 1.jpg\n": "Line 2",
    "v1.2 1\njpg 512 0600 1.jpg\n": "Line 2",
    "v1.2 1\njpg 512 600 1.jpg  txt 2048 2 1.txt\n": "Line 2",
    "v1.2 1\njpg 512 600 1.jpg txt 2048 2 2.txt\n": "Line 2",
    f"v1.2 1\njpg 512 {'9' * 5_000} 1.jpg\n": "Line 2",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: repr(text)[:40])
def test_an_invalid_index_is_refused(text):
    with pytest.raises(IntegrityError, match=WRONG[text]):
        read_index(text)


@pytest.mark.parametrize(
    "member",
    [Member("1.jpg", 512, 601), Member("1.png", 512, 600), Member("1.jpg", 0, 600), Member("1.jpg", 9_999_999, 600),
     Member("1.jpg", 1024, 600)],
)  # fmt: skip
def test_an_index_of_another_tar_is_refused(member):
    tar = io.BytesIO()
    write_member(tar, "1.jpg", b"a" * 600)
    tar.write(END_OF_ARCHIVE)
    with pytest.raises(IntegrityError, match="the index belongs to another tar"):
        read_member(tar, member)


def tar_of(*members):
    tar = io.BytesIO()
    for name, content in members:
        write_member(tar, name, content)
    tar.write(END_OF_ARCHIVE)
    return tar.getvalue()


def of_another_writer():
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("1.jpg"))
    return tar.getvalue()


NOT_SAMPLES = {
    "cut in a content": (tar_of(("1.jpg", b"a" * 2_000))[:1_500], 2_560),
    "cut in a header": (tar_of(("1.jpg", b"a"), ("1.txt", b"b"))[:1_300], 1_024),
    "without its end": (tar_of(("1.jpg", b"a"))[:1_024], 1_024),
    "no extension": (tar_of(("1.jpg", b"a"), ("name", b"")), 1_024),
    "a space in a name": (tar_of(("1 2.jpg", b"")), 0),
    "another writer": (of_another_writer(), 0),
    "not a tar": (b"not a tar" * 200, 0),
    "empty": (b"", 0),
}


@pytest.mark.parametrize("name", NOT_SAMPLES)
def test_a_tar_without_complete_samples_is_refused(name):
    tar, offset = NOT_SAMPLES[name]
    with pytest.raises(IntegrityError, match=f"no member of a sample at offset {offset}:"):
        build_index(io.BytesIO(tar))


def test_a_shard_without_an_index_is_complete_and_gets_one_in_a_retry(tmp_path):
    bodies = {"/0.jpg": answer(jpeg()), "/1.jpg": answer(b"", "503 Service Unavailable")}
    rows = [(f"http://photos.test{path}", path) for path in bodies]
    with running(bodies) as site:
        dataset = dataset_of(tmp_path, rows, site.resolve)
        with pytest.MonkeyPatch.context() as before:
            stage = Transaction.stage

            def stage_without_index(self, path, **options):
                if not path.endswith(".idx"):
                    return stage(self, path, **options)
                return tmp_path / "left out"

            before.setattr(Transaction, "stage", stage_without_index)
            without = ShardTask(dataset, 0).run()
        assert sorted(committed_files(dataset)) == ["00000.parquet", "00000.tar"]
        assert ShardTask(dataset, 0).run().skipped
        assert ShardTask(dataset, 0, force=True).run().manifest.content == without.manifest.content
        site.pages["/1.jpg"] = answer(jpeg(90, 80))
        assert ShardTask(dataset, 0, retry=("http_5xx",)).run().recovered == 1
    files = committed_files(dataset)
    assert files["00000.idx"].decode() == build_index(io.BytesIO(files["00000.tar"]))
    assert len(read_index(files["00000.idx"].decode())) == 2
