"""Damaged copies of the shards of img2dataset are refused by name, and nothing is changed."""

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import AdoptionError, StoreError
from laion_assets.orchestration import adoption
from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets.store.store import Store
from laion_assets_tests.stages.adopted_files import SHARDS, change_tar, img2dataset_shards
from laion_assets_tests.stages.image_shards.adoption.test_adopt_shards import KEYS, adopt, change_stats, files_below
from laion_assets_tests.stages.image_shards.shards import dataset_of


def rewrite(folder: Path, change) -> None:
    change_tar(folder / "00001.tar", change)


def change_table(folder: Path, change) -> None:
    path = folder / "00001.parquet"
    pq.write_table(change(pq.read_table(path)), path)


def set_column(name, change):
    def apply(table):
        values = change(table.column(name).to_pylist())
        return table.set_column(table.column_names.index(name), name, pa.array(values, table.schema.field(name).type))

    return lambda folder: change_table(folder, apply)


def truncate(name, share=0.5):
    def apply(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return apply


def rename_all(old, new):
    def apply(folder):
        for suffix in (".tar", ".parquet", "_stats.json"):
            (folder / f"{old}{suffix}").rename(folder / f"{new}{suffix}")

    return apply


def swap_tars(folder):
    (folder / "00000.tar").rename(folder / "tar")
    (folder / "00001.tar").rename(folder / "00000.tar")
    (folder / "tar").rename(folder / "00001.tar")


def other_caption(members):
    return [(name, b"another caption" if name == members[5][0] else content) for name, content in members]


def short_keys(folder):
    set_column("key", lambda keys: [key[1:] for key in keys])(folder)


DAMAGES = {
    "truncated tar": (truncate("00001.tar"), "tar is truncated"),
    "tar without its end": (truncate("00001.tar", 0.9), "tar is truncated"),
    "truncated parquet": (truncate("00001.parquet"), "parquet file cannot be read"),
    "truncated stats": (truncate("00001_stats.json"), "stats are not img2dataset's"),
    "tar of another shard": (swap_tars, "which is not a success in its parquet file"),
    "sample removed": (lambda folder: rewrite(folder, lambda members: members[3:]), "tar has no sample 00001"),
    "member removed": (lambda folder: rewrite(folder, lambda members: members[1:]), "expected an image, json and txt"),
    "sample twice": (lambda folder: rewrite(folder, lambda members: members + members[:3]), "twice"),
    "another member": (lambda folder: rewrite(folder, lambda members: [*members, ("a.exe", b"")]), "unexpected member"),
    "empty image": (
        lambda folder: rewrite(folder, lambda members: [(members[0][0], b""), *members[1:]]),
        "empty image or json",
    ),
    "txt of another row": (lambda folder: rewrite(folder, other_caption), "its txt differs from the caption"),
    "json of another row": (
        lambda folder: rewrite(folder, lambda members: [*members[:1], (members[1][0], members[4][1]), *members[2:]]),
        "its key differs from that of the row",
    ),
    "row removed": (lambda folder: change_table(folder, lambda table: table.slice(1)), "not a success"),
    "row twice": (lambda folder: change_table(folder, lambda table: pa.concat_tables([table, table[:1]])), "twice"),
    "caption changed": (set_column("caption", lambda values: ["x", *values[1:]]), "its caption differs"),
    "unknown status": (set_column("status", lambda values: ["?", *values[1:]]), "unknown status '?'"),
    "keys of 8 digits": (short_keys, "number_sample_per_shard=10000"),
    "keys of another shard": (
        set_column("key", lambda keys: [f"00002{key[5:]}" for key in keys]),
        "which belongs to another shard",
    ),
    "column removed": (
        lambda folder: change_table(folder, lambda table: table.drop_columns(["width"])),
        "column width",
    ),
    "stats of another run": (change_stats(successes=3), "stats list 3 successes, and its parquet file has"),
    "stats with too few rows": (change_stats(count=3), "stats list 3 rows, and its parquet file has 15"),
    "no stats": (lambda folder: (folder / "00001_stats.json").unlink(), "img2dataset writes it last"),
    "no tar": (lambda folder: (folder / "00001.tar").unlink(), "00001.tar is missing"),
    "index of another tar": (
        lambda folder: (folder / "00001.idx").write_text("v1.2 1\njpg 512 3 a.jpg\n"),
        "belongs to another tar",
    ),
    "damaged index": (lambda folder: (folder / "00001.idx").write_text("v1.2 1\n"), "not an index of its tar"),
    "folder in place of a file": (
        lambda folder: ((folder / "00001.tar").unlink(), (folder / "00001.tar").mkdir()),
        "00001.tar is not a file",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_shard_is_named_and_nothing_is_changed(damage: str, dataset: Dataset, folder: Path) -> None:
    make, reason = DAMAGES[damage]
    make(folder)
    report = adopt(dataset, folder)
    assert {refusal.name for refusal in report.refused} == ({"00000", "00001"} if make is swap_tars else {"00001"})
    assert reason in report.refused[-1].reason
    assert not Path(dataset.root).exists()


def test_shards_that_the_dataset_does_not_have_are_refused(dataset: Dataset, folder: Path) -> None:
    rename_all("00003", "00004")(folder)
    rename_all("00002", "000002")(folder)
    found = {refusal.name: refusal.reason for refusal in adopt(dataset, folder).refused}
    assert found["00004"] == "adopting has the shards 00000 to 00003 only"
    assert "5 digits" in found["000002"]


def test_shard_with_more_rows_than_declared_is_refused(dataset: Dataset, folder: Path) -> None:
    small = replace(dataset, layout=replace(dataset.layout, rows_per_shard=10))
    reasons = {refusal.reason for refusal in adopt(small, folder).refused}
    assert reasons == {"it has 15 rows, and the dataset declares at most 10 (rows_per_shard)"}


def test_shards_without_captions_are_refused(dataset: Dataset) -> None:
    folder, _ = img2dataset_shards(captions=False)
    assert "without caption_col" in adopt(dataset, folder).refused[0].reason


def test_dry_run_changes_nothing(dataset: Dataset, folder: Path) -> None:
    before = files_below(folder)
    report = adopt(dataset, folder, dry_run=True)
    assert (report.adopted, report.refused, report.is_dry_run) == (KEYS, [], True)
    assert not Path(dataset.root).exists()
    assert files_below(folder) == before


def test_shards_that_were_not_adopted_are_never_replaced(tmp_path: Path, folder: Path) -> None:
    _, rows = img2dataset_shards()
    dataset = dataset_of(tmp_path / "data", rows, {}, shards=SHARDS)
    dataset = replace(dataset, images=replace(dataset.images, refuse_local_failures=False))
    ShardTask(dataset, 0).run()
    (refusal,) = adopt(dataset, folder).refused
    assert refusal.name == "00000"
    assert "from other files (not adopted)" in refusal.reason


def test_adopted_shards_are_not_replaced_by_other_files(dataset: Dataset, folder: Path) -> None:
    adopt(dataset, folder)
    change_stats(duration=1.5)(folder)
    (refusal,) = adopt(dataset, folder).refused
    assert refusal.name == "00001"
    assert "from other files" in refusal.reason


def test_file_that_changes_after_its_verification_is_not_adopted(
    dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = adoption.prepare_store

    def change(*arguments):
        prepare(*arguments)
        (folder / "00000.tar").write_bytes(b"changed")

    monkeypatch.setattr(adoption, "prepare_store", change)
    with pytest.raises(AdoptionError, match=r"00000.tar was changed or removed after it was verified"):
        adopt(dataset, folder)
    assert Store.of(dataset).names("image_shards") == []


def test_folders_without_shards_and_the_own_folder_are_refused(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AdoptionError, match="has no shards of img2dataset"):
        adopt(dataset, tmp_path)
    with pytest.raises(AdoptionError, match="cannot be read"):
        adopt(dataset, tmp_path / "missing")
    own = Path(Store.of(dataset).address("image_shards"))
    shutil.copytree(folder, own)
    with pytest.raises(AdoptionError, match="is in the folder of adopting"):
        adopt(dataset, own)
    with pytest.raises(StoreError, match="No manifest names them"):
        adopt(dataset, folder)
