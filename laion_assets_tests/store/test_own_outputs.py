"""The files of a source that are read: regular files in any letter case, never this project's own outputs."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SettingError, SourceError
from laion_assets.stages.published_parquet.build import observe_published, read_list
from laion_assets.stages.raw_csv.build import fetch_raw_csv
from laion_assets.store.store import Store
from laion_assets_tests.stages.dedup_parquet.tables import quiet

TABLE = b"URL|TEXT|similarity\nhttp://a.test/1.jpg|one|0.3\n"


def fetched(dataset: Dataset, log: Callable[[str], None] = quiet) -> list[str]:
    """Return the files of raw_csv, relative to it."""
    manifest = fetch_raw_csv(dataset, Store.of(dataset), log)
    return sorted(entry.path.removeprefix("raw_csv/") for entry in manifest.files)


def reasons(dataset: Dataset) -> dict[str, int]:
    return dict(fetch_raw_csv(dataset, Store.of(dataset), quiet).counts.reasons)


def write_outputs(root: Path, name: str) -> None:
    """Write files like those of a dataset's folder after a run."""
    for path in (
        "raw_csv/old.csv",
        "dedup_parquet/00.parquet",
        "manifests/raw_csv/whole.json",
        "image_shards/0.parquet",
    ):
        (root / name / path).parent.mkdir(parents=True, exist_ok=True)
        (root / name / path).write_bytes(b"ours")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with a table and with a project's root."""
    (tmp_path / "work" / "in").mkdir(parents=True)
    (tmp_path / "work" / "in" / "crawl.csv").write_bytes(TABLE)
    return tmp_path / "work"


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize("below", ["data", "data/deep", "."])
def test_source_that_contains_the_root_is_read_without_the_outputs(
    dataset: Dataset, work: Path, scheme: str, below: str
) -> None:
    root = work / below
    write_outputs(root, "other")
    here = replace(dataset, root=f"{scheme}{root}", source=f"{scheme}{work}")
    lines: list[str] = []
    assert fetched(here, lines.append) == ["in/crawl.csv"]
    assert any("files written by this project below" in line for line in lines)
    assert fetched(here) == ["in/crawl.csv"], "a second time, with outputs of its own there"


def test_links_into_the_root_are_not_read(dataset: Dataset, work: Path, tmp_path: Path) -> None:
    root = tmp_path / "elsewhere"
    write_outputs(root, dataset.folder)
    (work / "data").symlink_to(root)
    (work / "mine.csv").symlink_to(root / dataset.folder / "raw_csv" / "old.csv")
    (tmp_path / "table.csv").write_bytes(TABLE)
    (work / "linked.csv").symlink_to(tmp_path / "table.csv")
    (tmp_path / "link").symlink_to(work)
    here = replace(dataset, root=str(root), source=str(tmp_path / "link"))
    assert fetched(here) == ["in/crawl.csv", "linked.csv"]
    through = replace(dataset, root=str(work / "data"), source=str(work))
    assert fetched(through) == ["in/crawl.csv", "linked.csv"]


@pytest.mark.parametrize("below", ["", "/raw_csv"])
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_source_inside_the_folder_of_the_dataset_is_refused(
    dataset: Dataset, work: Path, below: str, scheme: str
) -> None:
    write_outputs(work, dataset.folder)
    for setting in ("source", "published"):
        named = f"{scheme}{work}/{dataset.folder}{below}"
        here = replace(dataset, root=str(work), **{setting: (named,) if setting == "published" else named})
        with pytest.raises(SettingError, match=f"{setting} is {named}, inside of the dataset's own folder"):
            fetched(here) if setting == "source" else observe_published(here, Store.of(here), quiet)


def test_published_files_are_found_in_any_letter_case(dataset: Dataset, work: Path) -> None:
    write_outputs(work / "data", dataset.folder)
    write_outputs(work / "data", "other")
    for name in ("part1.parquet", "PART2.PARQUET", "three[1]?.parquet"):
        pq.write_table(pa.table({"URL": ["http://a.test/"], "TEXT": ["a"]}), work / "in" / name)
    here = replace(dataset, root=str(work / "data"), published=(str(work),))
    lines: list[str] = []
    observe_published(here, Store.of(here), lines.append)
    names = ["in/PART2.PARQUET", "in/part1.parquet", "in/three[1]?.parquet"]
    assert [file.path for file in read_list(Store.of(here))] == names
    assert f"{work}: skipped 1 files not named .parquet" in lines
    (work / "in [x]").mkdir()
    pq.write_table(pa.table({"URL": ["http://a.test/"], "TEXT": ["a"]}), work / "in [x]" / "a.parquet")
    observe_published(replace(here, published=(f"{work}/in [x]/*.parquet",)), Store.of(here), quiet)
    assert [file.path for file in read_list(Store.of(here))] == ["a.parquet"]
    with pytest.raises(SettingError, match="own folder"):
        observe_published(
            replace(here, published=(f"{work}/data/{dataset.folder}/dedup_parquet/*.parquet",)), Store.of(here), quiet
        )


def test_tables_are_read_in_any_letter_case_and_others_are_counted(dataset: Dataset, work: Path) -> None:
    for name in ("PART2.CSV", "x.Csv.GZ", "p.Parquet", "notes.txt", "csv"):
        (work / "in" / name).write_bytes(TABLE)
    here = replace(dataset, source=str(work / "in"))
    lines: list[str] = []
    assert fetched(here, lines.append) == ["PART2.CSV", "crawl.csv", "p.Parquet", "x.Csv.GZ"]
    assert reasons(here) == {"other_pattern": 2}
    assert "left out, other_pattern: 'notes.txt'" in lines
    exact = replace(here, csv=replace(here.csv, pattern=r"(?-i:\.csv)$"))
    assert fetched(exact) == ["crawl.csv"]


def test_invalid_regular_expression_is_refused_with_its_setting(dataset: Dataset, work: Path) -> None:
    with pytest.raises(SettingError, match=r"csv\.pattern is '\*\.csv': it must be a valid Python regular expression"):
        replace(dataset, source=str(work), csv=replace(dataset.csv, pattern="*.csv"))


def test_pipes_folders_and_broken_links_named_like_tables_are_counted_not_opened(dataset: Dataset, work: Path) -> None:
    os.mkfifo(work / "in" / "pipe.csv")
    (work / "in" / "folder.csv").mkdir()
    (work / "in" / "gone.csv").symlink_to(work / "nowhere")
    (work / "in" / "up.csv").symlink_to(work)
    here = replace(dataset, source=str(work / "in"))
    assert fetched(here) == ["crawl.csv"]
    assert reasons(here) == {"not_a_file": 3}


NAMES = ["*.csv", "a*.csv", "a?.csv", "a[1].csv", "a1.csv", "ab.csv", "x#y.csv", "50%.csv", "{a}.csv"]


@pytest.mark.parametrize("root", ["local", "remote"])
def test_wildcards_in_object_names_are_literal(dataset: Dataset, object_store: str, root: str, tmp_path: Path) -> None:
    there = f"{object_store}/literal-{root}"
    fs, base = fsspec.core.url_to_fs(there)
    for number, name in enumerate(NAMES):
        fs.pipe_file(f"{base}/in/{name}", b"%d|" % number + TABLE)
    where = f"{there}/data" if root == "remote" else dataset.root
    here = replace(dataset, source=there, root=where)
    here = replace(here, csv=replace(here.csv, partial_folder=str(tmp_path / "partial")))
    store = Store.of(here)
    for _ in range(2):
        assert fetched(here) == sorted(f"in/{name}" for name in NAMES)
        for number, name in enumerate(NAMES):
            assert store.read_bytes(f"raw_csv/in/{name}") == b"%d|" % number + TABLE
    fs.rm_file(f"{base}/in/a*.csv")
    gone = replace(here, csv=replace(here.csv, deleted_at_source="remove"))
    left = [name for name in NAMES if name != "a*.csv"]
    assert fetched(gone) == sorted(f"in/{name}" for name in left)
    assert all(store.size(f"raw_csv/in/{name}") for name in left), "nothing but the one file was deleted"
    assert store.size("raw_csv/in/a*.csv") is None


def test_bucket_that_contains_the_root_is_read_without_the_outputs(
    dataset: Dataset, object_store: str, tmp_path: Path
) -> None:
    there = f"{object_store}/holds-root"
    fs, base = fsspec.core.url_to_fs(there)
    fs.pipe_file(f"{base}/in/crawl.csv", TABLE)
    fs.pipe_file(f"{base}/data/other/manifests/raw_csv/whole.json", b"{}")
    fs.pipe_file(f"{base}/data/other/raw_csv/x.csv", TABLE)
    here = replace(dataset, source=there, root=f"{there}/data")
    here = replace(here, csv=replace(here.csv, partial_folder=str(tmp_path / "partial")))
    for _ in range(2):
        assert fetched(here) == ["in/crawl.csv"]
    with pytest.raises(SettingError, match="own folder"):
        fetched(replace(here, source=f"{there}/data/{dataset.folder}"))


def test_source_without_a_table_lists_the_files_it_has(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "table.tsv").write_bytes(TABLE)
    with pytest.raises(
        SourceError, match=r"No file of the source .* matches csv\.pattern.*left out, other_pattern: 'table\.tsv'"
    ):
        fetched(replace(dataset, source=str(tmp_path / "in")))
