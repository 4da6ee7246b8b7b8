"""A shard from its rows to committed files: every row is counted, and the same input produces the same bytes."""

import errno
import io
import json
import pickle
import random
import tarfile
import time
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from PIL import Image

from laion_assets.errors import IncompleteError, IntegrityError, InvariantError, LocalFailureError, ShardError
from laion_assets.stages.image_shards.decoding import decoder_process
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.stages.image_shards.shard.columns import shard_schema
from laion_assets.stages.image_shards.shard.files import verify
from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets.stages.status import DatasetStatus
from laion_assets.store.manifest import manifest_path
from laion_assets.store.store import Store
from laion_assets_tests.stages.image_shards.images import encode, jpeg, scene
from laion_assets_tests.stages.image_shards.shards import IMAGES, committed_files, dataset_of
from laion_assets_tests.stages.image_shards.site import answer, raw, running


def late(talk):
    """Return the response after a random pause, so that rows complete in a different order each time."""

    def talk_later(sock):
        time.sleep(random.random() / 20)
        talk(sock)

    return talk_later


EXIF = Image.Exif()
EXIF[0x010F] = "Secret Camera"
EXIF[0x0112] = 1
EXIF.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
PAGES = {
    **{f"/{n}.jpg": late(answer(jpeg(120 + 7 * n, 200 - 5 * n, n))) for n in range(20)},
    "/exif.jpg": answer(encode(scene(300, 200), "JPEG", exif=EXIF)),
    "/html.jpg": answer(b"<html>no"),
    "/cut.jpg": answer(jpeg(900, 900)[:5000]),
    "/noai.jpg": answer(jpeg(), "200 OK", "X-Robots-Tag: noai"),
    "/big.jpg": answer(b"", length=10**9),
    "/reset.jpg": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12"),
}
ROWS = [(f"http://photos.test/{n}.jpg", f"caption {n} é") for n in range(20)] + [
    ("http://photos.test/exif.jpg", None),
    ("http://photos.test/html.jpg", "a"),
    ("http://photos.test/cut.jpg", "b"),
    ("http://photos.test/noai.jpg", "c"),
    ("http://photos.test/big.jpg", "d"),
    ("http://photos.test/reset.jpg", "e"),
    ("http://photos.test/gone.jpg", "f"),
    ("http://127.0.0.1/x.jpg", "g"),
    ("file:///etc/passwd", "h"),
    ("photo.jpg", "success: not really"),
    ("http://[", "i"),
]
REASONS = {
    "blocked_address": 1, "http_404": 1, "invalid_url": 2, "not_an_image": 1, "opted_out": 1,
    "short_body": 1, "too_large": 1, "undecodable": 1, "unsupported_scheme": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def site():
    with running(PAGES) as running_site:
        yield running_site


@pytest.fixture(scope="module")
def made(site, tmp_path_factory):
    dataset = dataset_of(tmp_path_factory.mktemp("made"), ROWS, site.resolve)
    return dataset, pickle.loads(pickle.dumps(ShardTask(dataset, 0))).run()


def table_of(dataset, shard=0):
    return pq.read_table(Store.of(dataset).local_root / ImageShards.path(dataset.layout, shard, ".parquet"))


def test_every_row_has_its_reason(made):
    dataset, outcome = made
    assert (outcome.rows, outcome.successes, outcome.reasons) == (len(ROWS), 21, REASONS)
    rows = table_of(dataset).to_pylist()
    assert [(row["url"], row["caption"]) for row in rows] == ROWS
    assert [row["key"] for row in rows] == [f"{n:09d}" for n in range(len(ROWS))]
    by_url = {row["url"].rpartition("/")[2]: row for row in rows}
    assert by_url["noai.jpg"]["reason"] == "opted_out"
    assert by_url["noai.jpg"]["error_message"] == "opted_out: X-Robots-Tag: noai"
    assert by_url["cut.jpg"]["status"] == "failed_to_resize"
    assert by_url["photo.jpg"]["reason"] == "invalid_url"


def test_schema_and_tar_members_are_as_documented(made):
    dataset, _ = made
    assert table_of(dataset).schema.remove_metadata() == shard_schema(dataset.images)
    with tarfile.open(Store.of(dataset).local_root / "image_shards/00000.tar") as tar:
        members = tar.getmembers()
        sample = json.load(tar.extractfile("000000003.json"))
        empty_caption = tar.extractfile("000000020.txt").read()
    assert [member.name for member in members[:4]] == [
        "000000000.jpg", "000000000.json", "000000000.txt", "000000001.jpg"
    ]  # fmt: skip
    assert {(member.mtime, member.uid, member.gid, member.uname, member.mode) for member in members} == {
        (0, 0, 0, "bigdata", 0o444)
    }
    assert list(sample)[:6] == ["uid", "NSFW", "similarity", "LICENSE", "caption", "url"]
    assert "reason" not in sample
    assert empty_caption == b""


def test_personal_exif_is_removed(made, site, tmp_path):
    dataset, _ = made
    assert json.loads(table_of(dataset).column("exif")[20].as_py()) == {"Image Orientation": "Horizontal (normal)"}
    asked = dataset_of(tmp_path, ROWS[20:21], site.resolve, images=replace(IMAGES, keep_personal_exif=True))
    ShardTask(asked, 0).run()
    assert "Secret Camera" in table_of(asked).column("exif")[0].as_py()


def test_the_same_responses_produce_the_same_bytes(made, site, tmp_path):
    dataset, outcome = made
    again = dataset_of(tmp_path, ROWS, site.resolve, images=replace(IMAGES, threads=3))
    assert ShardTask(again, 0).run().manifest.content == outcome.manifest.content
    assert committed_files(again) == committed_files(dataset)


def test_a_complete_shard_is_skipped_and_a_damaged_or_stale_one_is_rebuilt(site, tmp_path):
    dataset = dataset_of(tmp_path, ROWS[:8], site.resolve, shards=2)
    assert [ShardTask(dataset, shard).run().skipped for shard in (0, 1, 0, 1)] == [False, False, True, True]
    files = committed_files(dataset)
    asked = len(site.seen)
    assert ShardTask(dataset, 0).run().successes == 4
    assert len(site.seen) == asked
    assert not ShardTask(dataset, 0, force=True).run().skipped
    tar = Store.of(dataset).local_root / "image_shards/00001.tar"
    tar.write_bytes(tar.read_bytes()[:-600])
    assert not ShardTask(dataset, 1).run().skipped
    assert committed_files(dataset) == files
    smaller = replace(dataset, images=replace(IMAGES, image_size=64))
    assert DatasetStatus(smaller).state("image_shards", 0).state == "stale"
    assert not ShardTask(smaller, 0).run().skipped
    assert DatasetStatus(smaller).state("image_shards", 0).state == "complete"


def test_stats_are_those_of_img2dataset_with_reasons(made):
    dataset, outcome = made
    stats = json.loads((Store.of(dataset).local_root / "image_shards/00000_stats.json").read_text())
    assert (stats["count"], stats["successes"]) == (len(ROWS), 21)
    assert (stats["failed_to_download"], stats["failed_to_resize"]) == (8, 2)
    assert stats["reasons"] == REASONS
    assert sum(stats["status_dict"].values()) == len(ROWS)
    assert outcome.manifest.details["original_sizes"]["<=256"] == 20
    assert outcome.manifest.details["wire_bytes"] > 10_000


@pytest.mark.parametrize("rows", [[], [("http://photos.test/gone.jpg", "x")], [("http://photos.test/html.jpg", "x")]])
def test_a_shard_without_images_is_valid_and_empty(rows, site, tmp_path):
    dataset = dataset_of(tmp_path, rows, site.resolve)
    outcome = ShardTask(dataset, 0).run()
    assert (outcome.rows, outcome.successes) == (len(rows), 0)
    assert table_of(dataset).schema.remove_metadata() == shard_schema(dataset.images)
    with tarfile.open(Store.of(dataset).local_root / "image_shards/00000.tar") as tar:
        assert tar.getnames() == []
    assert ShardTask(dataset, 0).run().skipped


def test_an_error_in_the_decoder_fails_one_row(site, tmp_path, monkeypatch):
    size = len(jpeg(120 + 7 * 2, 200 - 5 * 2, 2))
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'laion_assets.stages.image_shards.decoding.decoder_child' in sys.orig_argv:\n"
        "    import cv2\n"
        "    import simplejpeg\n"
        "    decode = simplejpeg.decode_jpeg\n"
        f"    simplejpeg.decode_jpeg = lambda it, *a, **b: 1 // 0 if len(it) == {size} else decode(it, *a, **b)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    decoder_process._stop_running()
    dataset = dataset_of(tmp_path, ROWS[:6], site.resolve)
    outcome = ShardTask(dataset, 0).run()
    assert (outcome.rows, outcome.successes, outcome.reasons) == (6, 5, {"internal": 1})
    row = table_of(dataset).to_pylist()[2]
    assert (row["url"], row["status"], row["reason"]) == (ROWS[2][0], "failed_to_resize", "internal")
    decoder_process._stop_running()


def test_a_shard_with_a_local_failure_is_not_committed(site, tmp_path):
    rows = ROWS[:3] + [(f"http://host-{n}.invalid/{n}.jpg", "x") for n in range(40)]
    dataset = dataset_of(tmp_path, rows, site.resolve)
    with pytest.raises(LocalFailureError, match=r"40 unrelated sites failed .*dns_failure 40.*check the resolver"):
        ShardTask(dataset, 0).run()
    state = DatasetStatus(dataset).state("image_shards", 0)
    assert (state.state, state.local_failure) == ("missing", True)
    assert "dns_failure 40" in state.reason
    assert not (Store.of(dataset).local_root / "staging/image_shards/00000").exists()
    forced = replace(dataset, images=replace(IMAGES, refuse_local_failures=False))
    assert ShardTask(forced, 0).run().reasons == {"dns_failure": 40}
    assert Store.of(dataset).names("local_failures/image_shards") == []


def test_altered_rows_are_refused(site, tmp_path):
    dataset = dataset_of(tmp_path, ROWS[:4], site.resolve)
    other = dataset_of(tmp_path / "other", ROWS[4:8], site.resolve)
    path = "dedup_parquet/00.parquet"
    (Store.of(dataset).local_root / path).write_bytes((Store.of(other).local_root / path).read_bytes())
    with pytest.raises(IntegrityError, match=r"dedup_parquet 00 |dedup_parquet/00\.parquet has .* its manifest lists"):
        ShardTask(dataset, 0).run()


def test_missing_rows_are_named(site, tmp_path):
    dataset = dataset_of(tmp_path, ROWS[:4], site.resolve)
    Store.of(dataset).delete(manifest_path("dedup_parquet", "00"))
    with pytest.raises(IncompleteError, match="dedup_parquet 00 is not committed"):
        ShardTask(dataset, 0).run()


def test_a_column_that_does_not_exist_is_named(site, tmp_path):
    dataset = dataset_of(tmp_path, ROWS[:1], site.resolve, images=replace(IMAGES, additional_columns=("colour",)))
    with pytest.raises(ShardError, match="colour"):
        ShardTask(dataset, 0).run()


def test_a_shard_with_a_missing_row_is_not_committed(site, tmp_path, monkeypatch):
    from laion_assets.stages.image_shards.shard.writer import ShardWriter

    close = ShardWriter.close

    def close_one_row_short(self):
        self._rows.popitem()
        close(self)

    monkeypatch.setattr(ShardWriter, "close", close_one_row_short)
    dataset = dataset_of(tmp_path, ROWS[:4], site.resolve)
    with pytest.raises(InvariantError, match="its parquet has 3 rows for 4 input rows"):
        ShardTask(dataset, 0).run()
    assert DatasetStatus(dataset).state("image_shards", 0).state == "missing"


def test_a_full_disk_fails_the_shard_and_not_its_rows(site, tmp_path, monkeypatch):
    from laion_assets.stages.image_shards.shard import writer as shard_writer

    def full(self, key, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shard_writer._Spool, "put", full)
    dataset = dataset_of(tmp_path, ROWS[:3], site.resolve)
    with pytest.raises(OSError, match="No space left"):
        ShardTask(dataset, 0).run()
    assert DatasetStatus(dataset).state("image_shards", 0).state == "missing"


def rewritten(tar, change):
    """Return the tar with changed members: `change` maps the list of (info, content) to a new list."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        members = [(info, archive.extractfile(info).read()) for info in archive]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for info, content in change(members):
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m, None),
        (lambda m: m[:-1], "no 000000020.txt"),
        (lambda m: m[3:], "has 000000001.jpg, but by the parquet the next member is 000000000.jpg"),
        (lambda m: [*m, m[-1]], "has 000000020.txt, but by the parquet the next member is none"),
        (lambda m: [*m[3:6], *m[:3], *m[6:]], "has 000000001.jpg"),
        (lambda m: [m[0], (m[1][0], m[4][1]), *m[2:]], "000000000.json does not match its row"),
    ],
)
def test_the_first_mismatch_of_tar_and_parquet_is_reported(change, message, made):
    files = committed_files(made[0])
    tar, parquet = io.BytesIO(rewritten(files["00000.tar"], change)), io.BytesIO(files["00000.parquet"])
    if message is None:
        assert verify(tar, parquet).successes == 21
    else:
        with pytest.raises(IntegrityError, match=message):
            verify(tar, parquet)


@pytest.mark.parametrize("kept", [0, 100, 512, 20_000, -10_240, -9_000])
def test_a_tar_truncated_anywhere_is_refused(kept, made):
    files = committed_files(made[0])
    with pytest.raises(IntegrityError):
        verify(io.BytesIO(files["00000.tar"][:kept]), io.BytesIO(files["00000.parquet"]))
