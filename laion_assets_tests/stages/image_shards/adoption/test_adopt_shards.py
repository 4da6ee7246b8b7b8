"""Shards that the img2dataset program made become complete partitions."""

import json
import shutil
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.identity import compute_uid
from laion_assets.errors import ShardError
from laion_assets.orchestration import adoption
from laion_assets.orchestration.checks.row_counts import verify
from laion_assets.stages.clip_embeddings.shard_reader import read_shard
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET
from laion_assets.stages.image_shards.adoption import find
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS, ImageShards
from laion_assets.stages.image_shards.shard.tar_index import read_index
from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets.stages.status import DatasetStatus, State
from laion_assets.store.manifest import Manifest
from laion_assets.store.store import Store
from laion_assets_tests.stages.adopted_files import (
    PAGES,
    REASONS,
    ROWS,
    SHARDS,
    img2dataset_shards,
)
from laion_assets_tests.stages.image_shards.shards import dataset_of
from laion_assets_tests.stages.image_shards.site import running

KEYS = [f"{shard:05d}" for shard in range(SHARDS)]


def adopt(dataset: Dataset, folder: Path, **options: bool) -> adoption.AdoptionReport:
    return adoption.adopt(dataset, IMAGE_SHARDS, folder, **options)


def manifests(dataset: Dataset) -> list[Manifest]:
    return list(ImageShards.of(dataset).manifests())


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def no_model() -> Any:
    raise AssertionError("the check of shards needs no model")


def change_stats(**values):
    def apply(folder):
        path = folder / "00001_stats.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return apply


def test_adopted_shards_are_complete_and_counted(dataset: Dataset, folder: Path) -> None:
    before = files_below(folder)
    report = adopt(dataset, folder)
    assert (report.adopted, report.present, report.refused) == (KEYS, [], [])
    assert (report.rows_in, report.rows_out, report.reasons) == (SHARDS * ROWS, SHARDS * ROWS - 4, Counter(REASONS))
    states = DatasetStatus(dataset).states(IMAGE_SHARDS)
    assert [(state.key, state.state) for state in states] == [(key, State.COMPLETE) for key in KEYS]
    assert verify(dataset, IMAGE_SHARDS, tuple(range(SHARDS)), no_model) == {}
    adopted = manifests(dataset)[1].details["adopted"]
    assert adopted["program"] == "img2dataset"
    assert adopted["folder"] == str(folder)
    assert set(adopted["files"]) == {"00001.tar", "00001.parquet", "00001_stats.json"}
    assert files_below(folder) == before


def test_tars_are_hard_links_and_copies_on_request(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    assert adopt(dataset, folder).methods == {"hard link": SHARDS}
    other = replace(dataset, root=str(tmp_path / "other"))
    assert adopt(other, folder, copy=True).methods == {"copy": SHARDS}
    theirs = folder / "00000.tar"
    linked, copied = (Path(Store.of(each).address("image_shards/00000.tar")) for each in (dataset, other))
    assert linked.samefile(theirs)
    assert not copied.samefile(theirs)
    assert linked.read_bytes() == copied.read_bytes()


def test_parquet_file_keeps_the_columns_and_order_of_img2dataset(dataset: Dataset, folder: Path) -> None:
    adopt(dataset, folder)
    theirs = pq.read_table(folder / "00001.parquet")
    ours = pq.read_table(Store.of(dataset).address("image_shards/00001.parquet"))
    assert ours.column_names == ["uid", *theirs.column_names, "reason"]
    assert ours.select(theirs.column_names).to_pylist() == theirs.to_pylist()
    for row in ours.to_pylist():
        assert row["uid"] == compute_uid(row["url"], row["caption"])
        path = "/" + row["url"].rpartition("/")[2]
        assert row["reason"] == ("http_5xx" if path == "/20.jpg" else "success"), row


def test_index_leads_to_every_member_of_the_tar(dataset: Dataset, folder: Path) -> None:
    adopt(dataset, folder)
    store = Store.of(dataset)
    samples = read_index(Path(store.address("image_shards/00002.idx")).read_text())
    with tarfile.open(folder / "00002.tar") as archive:
        expected = {member.name: archive.extractfile(member).read() for member in archive}
    assert [member.name for sample in samples for member in sample] == list(expected)
    with store.open("image_shards/00002.tar") as tar:
        for sample in samples:
            for member in sample:
                tar.seek(member.offset)
                assert tar.read(member.size) == expected[member.name]


def test_readers_of_shards_get_every_sample_with_the_uid_of_its_row(dataset: Dataset, folder: Path) -> None:
    adopt(dataset, folder)
    store = Store.of(dataset)
    samples = list(read_shard(store, dataset.layout, 0, manifests(dataset)[0]))
    table = pq.read_table(store.address("image_shards/00000.parquet")).to_pylist()
    assert [(sample.key, sample.uid) for sample in samples] == [
        (row["key"], row["uid"]) for row in table if row["status"] == "success"
    ]


def test_adopted_shards_stay_complete_under_other_settings(dataset: Dataset, folder: Path) -> None:
    adopt(dataset, folder)
    changed = replace(dataset, images=replace(dataset.images, image_size=32, encode_quality=50))
    assert {state.state for state in DatasetStatus(changed).states(IMAGE_SHARDS)} == {State.COMPLETE}
    stage_digest = manifests(dataset)[0].settings
    assert stage_digest.startswith("adopted-")


def test_second_adoption_finds_the_partitions_in_place(dataset: Dataset, folder: Path) -> None:
    adopt(dataset, folder)
    before = manifests(dataset)
    report = adopt(dataset, folder)
    assert (report.adopted, report.present, report.refused) == ([], KEYS, [])
    assert (report.rows_in, report.rows_out) == (SHARDS * ROWS, SHARDS * ROWS - 4)
    assert manifests(dataset) == before


def test_interrupted_adoption_continues(dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = find.VerifiedShard.commit

    def stop_at_third(self, store, copy):
        if self.key == KEYS[2]:
            raise KeyboardInterrupt
        return commit(self, store, copy)

    monkeypatch.setattr(find.VerifiedShard, "commit", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        adopt(dataset, folder)
    monkeypatch.undo()
    report = adopt(dataset, folder)
    assert (report.present, report.adopted) == (KEYS[:2], KEYS[2:])
    assert {state.state for state in DatasetStatus(dataset).states(IMAGE_SHARDS)} == {State.COMPLETE}


def test_some_shards_are_adopted_and_the_others_stay_missing(dataset: Dataset, folder: Path) -> None:
    for suffix in (".tar", ".parquet", "_stats.json"):
        (folder / f"00001{suffix}").unlink()
    (folder / "notes.txt").write_text("mine")
    report = adopt(dataset, folder)
    assert (report.adopted, report.ignored) == ([KEYS[0], *KEYS[2:]], ["notes.txt"])
    assert DatasetStatus(dataset).state(IMAGE_SHARDS, 1).state is State.MISSING


def test_many_shards_are_verified_in_processes(dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "_IN_ONE_PROCESS", 1)
    two = replace(dataset, images=replace(dataset.images, processes=2))
    (folder / "00002.tar").write_bytes(b"x" * 2_000)
    report = adopt(two, folder)
    assert [refusal.name for refusal in report.refused] == ["00002"]
    assert report.adopted == [KEYS[0], KEYS[1], KEYS[3]]


def test_own_columns_of_the_input_are_kept(dataset: Dataset) -> None:
    folder, _ = img2dataset_shards(columns="NSFW,uid,similarity")
    adopt(dataset, folder)
    names = pq.read_schema(Store.of(dataset).address("image_shards/00000.parquet")).names
    assert names[:3] == ["uid", "NSFW", "similarity"]


def test_uid_of_another_program_is_kept_as_source_uid(dataset: Dataset, folder: Path) -> None:
    for key in KEYS:
        table = pq.read_table(folder / f"{key}.parquet")
        theirs = pa.array([f"theirs-{row}" for row in range(table.num_rows)])
        pq.write_table(table.append_column("uid", theirs), folder / f"{key}.parquet")
    assert adopt(dataset, folder).refused == []
    rows = pq.read_table(Store.of(dataset).address("image_shards/00000.parquet")).to_pylist()
    assert [row["source_uid"] for row in rows] == [f"theirs-{row}" for row in range(ROWS)]
    assert all(row["uid"] == compute_uid(row["url"], row["caption"]) for row in rows)


# Rows of dedup_parquet


def test_rows_of_dedup_parquet_are_compared_and_become_the_input(tmp_path: Path) -> None:
    folder, rows = img2dataset_shards()
    dataset = dataset_of(tmp_path / "data", rows, {}, shards=SHARDS)
    assert adopt(dataset, folder).refused == []
    assert {state.state for state in DatasetStatus(dataset).states(IMAGE_SHARDS)} == {State.COMPLETE}
    assert verify(dataset, IMAGE_SHARDS, tuple(range(SHARDS)), no_model) == {}
    outcome = ShardTask(dataset, 1).run()
    assert outcome.skipped
    with pytest.raises(ShardError, match="was adopted, so its failed rows cannot be fetched again"):
        ShardTask(dataset, 1, retry=("http_5xx",)).run()
    other = [(url, f"{caption} changed") for url, caption in rows]
    changed = dataset_of(tmp_path / "data", other, {}, shards=SHARDS)
    assert {state.reason for state in DatasetStatus(changed).states(IMAGE_SHARDS)} == {"inputs changed"}


def test_shards_of_other_rows_are_refused(tmp_path: Path) -> None:
    folder, rows = img2dataset_shards()
    rows = [rows[0], (rows[1][0], "another caption"), *rows[2:]]
    dataset = dataset_of(tmp_path / "data", rows, {}, shards=SHARDS)
    (refusal,) = adopt(dataset, folder).refused
    assert refusal.name == "00000"
    assert (
        "15 rows are not the 15 rows of this shard in dedup_parquet 00 (1 are missing, 1 are others;" in refusal.reason
    )
    assert Store.of(dataset).names("manifests/image_shards") == []


def test_shards_adopted_without_rows_stay_complete_when_rows_are_built(tmp_path: Path) -> None:
    folder, rows = img2dataset_shards()
    dataset = dataset_of(tmp_path / "data", rows[:4], {}, shards=SHARDS)
    shutil.rmtree(tmp_path / "data" / "tiny")
    adopt(dataset, folder)
    dataset_of(tmp_path / "data", rows[:4], {}, shards=SHARDS)
    assert Store.of(dataset).names(f"manifests/{DEDUP_PARQUET}") == ["00.json"]
    assert {state.state for state in DatasetStatus(dataset).states(IMAGE_SHARDS)} == {State.COMPLETE}
    assert ShardTask(dataset, 0).run().skipped


def test_rows_that_img2dataset_lost_are_noted(dataset: Dataset, folder: Path) -> None:
    change_stats(count=ROWS + 2)(folder)
    report = adopt(dataset, folder)
    assert [(note.name, note.reason.partition(" ")[0]) for note in report.notes] == [("00001", "2")]
    assert manifests(dataset)[1].details["adopted"]["rows_lost"] == 2


def test_check_finds_an_altered_row_of_an_adopted_shard(dataset: Dataset, folder: Path) -> None:
    adopt(dataset, folder, copy=True)
    path = Path(Store.of(dataset).address("image_shards/00001.parquet"))
    table = pq.read_table(path)
    path.unlink()
    pq.write_table(table.slice(1), path)
    (problems,) = verify(dataset, IMAGE_SHARDS, (1,), no_model).values()
    assert "not a success" in problems[0]


def test_tar_that_is_rewritten_in_place_shows_as_damaged_and_is_adopted_again(dataset: Dataset, folder: Path) -> None:
    adopt(dataset, folder)
    whole = (folder / "00001.tar").read_bytes()
    (folder / "00001.tar").write_bytes(whole[:-512])  # the same file as the hard link
    assert DatasetStatus(dataset).state(IMAGE_SHARDS, 1).state is State.DAMAGED
    (folder / "00001.tar").unlink()
    (folder / "00001.tar").write_bytes(whole)
    report = adopt(dataset, folder)
    assert (report.adopted, report.refused) == (["00001"], [])
    assert DatasetStatus(dataset).state(IMAGE_SHARDS, 1).state is State.COMPLETE


def test_shards_of_another_dataset_of_this_project_are_adopted(tmp_path: Path, dataset: Dataset) -> None:
    with running(PAGES) as site:
        rows = [(f"http://photos.test{path}", f"caption of {path}") for path in PAGES]
        other = dataset_of(tmp_path / "other", rows, site.resolve, shards=SHARDS)
        built = [ShardTask(other, shard).run() for shard in range(SHARDS)]
    report = adopt(dataset, Path(Store.of(other).address(IMAGE_SHARDS)))
    assert (report.refused, report.adopted) == ([], KEYS)
    assert report.reasons == sum((Counter(outcome.reasons) for outcome in built), Counter())
    for mine, theirs in zip(manifests(dataset), manifests(other), strict=True):
        assert mine.entry(".tar").sha256 == theirs.entry(".tar").sha256
        assert mine.details["adopted"]["program"] == "laion_assets"
    assert verify(dataset, IMAGE_SHARDS, tuple(range(SHARDS)), no_model) == {}


def test_shards_are_adopted_into_an_object_store(dataset: Dataset, folder: Path, object_store: str) -> None:
    remote = replace(dataset, root=f"{object_store}/adopting")
    report = adopt(remote, folder)
    assert (report.refused, report.methods) == ([], {"copy": SHARDS})
    assert {state.state for state in DatasetStatus(remote).states(IMAGE_SHARDS)} == {State.COMPLETE}
    assert Store.of(remote).read_bytes("image_shards/00001.tar") == (folder / "00001.tar").read_bytes()
    assert verify(remote, IMAGE_SHARDS, (1,), no_model) == {}
