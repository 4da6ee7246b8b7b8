"""A dataset with a changed layout does not start over old partitions, and overwrites no foreign file."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import fsspec
import pytest
from click.testing import CliRunner

from laion_assets.cli import cli
from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets.definitions import build_definitions
from laion_assets.errors import IntegrityError, LayoutError, StoreError
from laion_assets.orchestration import runs
from laion_assets.orchestration.checks.up_to_date import summarize
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.knn_indices.handle import KNN_INDICES
from laion_assets.stages.published_parquet.handle import PUBLISHED_PARQUET
from laion_assets.stages.raw_csv.build import fetch_raw_csv
from laion_assets.stages.raw_csv.handle import RAW_CSV
from laion_assets.stages.registry import partition_paths, stage_names
from laion_assets.stages.statistics.handle import DATASET_STATISTICS, IMAGE_STATISTICS
from laion_assets.stages.status import DatasetStatus, settings_digest
from laion_assets.stages.stored_layout import (
    RECORD,
    old_partitions,
    prepare_store,
    read_record,
    remove_old_layout,
    to_record,
)
from laion_assets.store.lease import lease
from laion_assets.store.manifest import Counts, manifest_path, read_manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction, recover
from laion_assets_tests.stages.clip_embeddings.small_dataset import commit_shards, small_dataset

EIGHT = Layout(parquet_files=2, shards=8, embedding_files=8, rows_per_shard=50)
THREE = Layout(parquet_files=1, shards=3, embedding_files=2, rows_per_shard=50)


@pytest.fixture(params=["local", "memory"])
def eight(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    """A dataset of 8 shards, as an earlier version has left it: everything is published, no layout recorded."""
    root = str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"
    dataset = replace(SAMPLE, name="mine", root=root, layout=EIGHT)
    store = Store.of(dataset)
    for number in range(8):
        commit_partition(store, IMAGE_SHARDS, f"{number:05d}", EIGHT)
        commit_partition(store, CLIP_EMBEDDINGS, str(number), EIGHT)
    for key in ("00", "01"):
        commit_partition(store, DEDUP_PARQUET, key, EIGHT)
        commit_partition(store, f"{DATASET_STATISTICS}_parts", key, EIGHT)
    commit_partition(store, KNN_INDICES, "all", EIGHT)
    return dataset


def commit_partition(store: Store, asset: str, key: str, layout: Layout, content: bytes = b"x") -> None:
    with open_transaction(store, asset, key) as transaction:
        for path in partition_paths(asset, key, layout):
            transaction.stage(path).write_bytes(content)
        transaction.commit(Counts(1, 1), settings=content.hex(), inputs="i")


def files_of(dataset: Dataset) -> set[str]:
    """Every file of the store except leases."""
    fs, base = fsspec.core.url_to_fs(Store.of(dataset).url)
    found = {path.removeprefix(f"{base}/") for path in fs.find(base)}
    return {path for path in found if not path.startswith("leases/")}


OLD = {
    DEDUP_PARQUET: ["01"],
    IMAGE_SHARDS: ["00003", "00004", "00005", "00006", "00007"],
    CLIP_EMBEDDINGS: ["2", "3", "4", "5", "6", "7"],
    f"{DATASET_STATISTICS}_parts": ["01"],
}


def test_another_layout_is_refused_for_every_asset_and_removed_on_request(eight: Dataset) -> None:
    three, store = replace(eight, layout=THREE), Store.of(eight)
    assert old_partitions(eight, store) == {}
    assert old_partitions(three, store) == OLD
    before = files_of(eight)
    for asset in stage_names(three):
        with pytest.raises(LayoutError) as refused:
            prepare_store(three, asset, (0,))
    for part in (
        "image_shards 00003, 00004",
        "(5)",
        "3 shards",
        "laion-assets relayout --dataset mine",
        "set the layout back",
        "another dataset name or root",
    ):
        assert part in str(refused.value)
    assert files_of(eight) == before

    said_too: list[str] = []
    assert remove_old_layout(three, said_too.append) == 13
    assert "image_shards 00003" in said_too[0]
    gone = {path for asset, keys in OLD.items() for key in keys for path in partition_paths(asset, key, EIGHT)}
    gone |= {manifest_path(asset, key) for asset, keys in OLD.items() for key in keys}
    assert before - files_of(eight) == gone
    for asset in stage_names(three):
        prepare_store(three, asset, (0,))
    assert read_record(store) == to_record(THREE)
    assert remove_old_layout(three) == 0


def test_the_indices_of_fewer_files_lose_the_metadata_of_the_others(eight: Dataset) -> None:
    """`clip-retrieval back` reads every parquet of the folder. The commit removes them: no kill can leave them."""
    store = Store.of(eight)
    assert len(store.names("knn_indices/metadata")) == 8
    commit_partition(store, KNN_INDICES, "all", THREE, b"new")
    assert store.names("knn_indices/metadata") == ["metadata_0.parquet", "metadata_1.parquet"]


def test_superseded_files_go_even_if_the_commit_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path))
    commit_partition(store, KNN_INDICES, "all", EIGHT)
    move = Store.move_all
    monkeypatch.setattr(Store, "move_all", lambda self, targets: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        commit_partition(store, KNN_INDICES, "all", THREE, b"new")
    monkeypatch.setattr(Store, "move_all", move)
    assert recover(store, KNN_INDICES) is not None
    assert store.names("knn_indices/metadata") == ["metadata_0.parquet", "metadata_1.parquet"]


def test_embedding_files_of_another_padding_are_of_another_layout(eight: Dataset) -> None:
    twelve = replace(eight, layout=replace(EIGHT, shards=12, embedding_files=12))
    assert old_partitions(twelve, Store.of(eight)) == {CLIP_EMBEDDINGS: [str(number) for number in range(8)]}


def test_a_layout_that_grows_is_refused_because_names_stay_and_rows_change(eight: Dataset) -> None:
    prepare_store(eight, IMAGE_SHARDS, range(8))
    nine, store = replace(eight, layout=replace(EIGHT, shards=9)), Store.of(eight)
    with pytest.raises(LayoutError, match=r"mine was built with 2 parquet files, 8 shards, .* 9 shards"):
        prepare_store(nine, IMAGE_SHARDS, range(9))
    assert remove_old_layout(nine) == 20
    assert not [path for path in files_of(eight) if path.startswith(("image_shards/", "clip_embeddings/"))]
    assert [path for path in files_of(eight) if path.startswith("knn_indices/")]
    assert read_record(store) == to_record(nine.layout)
    prepare_store(nine, IMAGE_SHARDS, range(9))


def test_another_number_of_embedding_files_leaves_the_shards(eight: Dataset) -> None:
    prepare_store(eight, IMAGE_SHARDS, range(8))
    four = replace(eight, layout=replace(EIGHT, embedding_files=4))
    assert old_partitions(four, Store.of(eight)) == {CLIP_EMBEDDINGS: [str(number) for number in range(8)]}


def test_the_layout_of_the_whole_dataset_counts_for_its_subsets(tmp_path: Path) -> None:
    dataset = replace(SAMPLE, root=str(tmp_path))
    commit_partition(Store.of(dataset), IMAGE_SHARDS, "00006", dataset.layout)
    prepare_store(dataset, IMAGE_SHARDS, (6,))
    changed = replace(dataset, layout=replace(dataset.layout, shards=20)).subset(range(1, 2))
    with pytest.raises(LayoutError, match=r"image_shards 00006 \(1\)"):
        prepare_store(changed, IMAGE_SHARDS, changed.layout.shard_numbers)


def test_a_store_without_partitions_takes_any_layout(tmp_path: Path) -> None:
    dataset = replace(SAMPLE, root=str(tmp_path))
    prepare_store(dataset, RAW_CSV, (0,))
    other, logged = replace(dataset, layout=THREE), []
    prepare_store(other, RAW_CSV, (0,), logged.append)
    assert "3 shards" in logged[0]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": 7}', b"[" * 3_000, b"x" * 10_000])
def test_a_record_that_cannot_be_read_is_rewritten(tmp_path: Path, content: bytes) -> None:
    dataset = replace(SAMPLE, root=str(tmp_path))
    Store.of(dataset).write_bytes(RECORD, content)
    if len(content) > 4_096:
        with pytest.raises(StoreError, match=r"layout\.json has 10,000 bytes"):
            prepare_store(dataset, RAW_CSV, (0,))
        return
    prepare_store(dataset, RAW_CSV, (0,))
    assert read_record(Store.of(dataset)) == to_record(dataset.layout)


def test_the_store_of_a_subset_is_not_of_another_layout(tmp_path: Path) -> None:
    dataset = replace(SAMPLE, root=str(tmp_path))
    store, subset = Store.of(dataset), dataset.subset(range(1, 2))
    for number in dataset.layout.shard_numbers:
        commit_partition(store, IMAGE_SHARDS, dataset.layout.shard_key(number), dataset.layout)
    prepare_store(subset, IMAGE_SHARDS, subset.layout.shard_numbers)
    own = Store.of(subset)
    commit_partition(own, CLIP_EMBEDDINGS, "1", subset.layout)
    assert old_partitions(subset, own) == {}
    assert old_partitions(dataset, store) == {}
    commit_partition(own, CLIP_EMBEDDINGS, "5", subset.layout)
    assert old_partitions(subset, own) == {CLIP_EMBEDDINGS: ["5"]}


def test_a_killed_removal_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = replace(SAMPLE, root=str(tmp_path), layout=THREE)
    store = Store.of(dataset)
    commit_partition(store, IMAGE_SHARDS, "00007", EIGHT)
    deleted: list[str] = []

    def delete_file(self: Store, path: str) -> None:
        if len(deleted) == 2:
            raise KeyboardInterrupt
        deleted.append(path)
        original(self, path)

    original = Store.delete_file
    monkeypatch.setattr(Store, "delete_file", delete_file)
    with pytest.raises(KeyboardInterrupt):
        remove_old_layout(dataset)
    monkeypatch.setattr(Store, "delete_file", original)
    assert old_partitions(dataset, store) == {IMAGE_SHARDS: ["00007"]}
    assert remove_old_layout(dataset) == 1
    assert files_of(dataset) == set()


def test_an_old_partition_that_was_killed_midway_is_finished_and_removed(tmp_path: Path) -> None:
    dataset = replace(SAMPLE, root=str(tmp_path), layout=THREE)
    store = Store.of(dataset)
    commit_partition(store, IMAGE_SHARDS, "00007", EIGHT)
    manifest = json.loads(store.read_bytes(manifest_path(IMAGE_SHARDS, "00007")))
    store.delete(manifest_path(IMAGE_SHARDS, "00007"))
    intent = {"transaction": "a1", "manifest": manifest}
    store.write_bytes(f"staging/{IMAGE_SHARDS}/00007/intent.json", json.dumps(intent).encode())
    assert remove_old_layout(dataset) == 1
    assert files_of(dataset) == set()


@pytest.mark.parametrize("tamper", ["another partition's file", "damaged"])
def test_a_removal_deletes_nothing_that_is_not_the_partition_s(tmp_path: Path, tamper: str) -> None:
    dataset = replace(SAMPLE, root=str(tmp_path), layout=THREE)
    store = Store.of(dataset)
    commit_partition(store, IMAGE_SHARDS, "00001", THREE)
    commit_partition(store, IMAGE_SHARDS, "00007", EIGHT)
    path = manifest_path(IMAGE_SHARDS, "00007")
    fields = json.loads(store.read_bytes(path))
    fields["files"][0]["path"] = "image_shards/00001.tar"
    store.write_bytes(path, json.dumps(fields).encode() if tamper != "damaged" else b"{")
    before = files_of(dataset)
    with pytest.raises(IntegrityError, match="image_shards 00007"):
        remove_old_layout(dataset)
    assert files_of(dataset) == before


@pytest.mark.parametrize("asset", [RAW_CSV, CLIP_EMBEDDINGS, KNN_INDICES, DATASET_STATISTICS, IMAGE_STATISTICS])
def test_a_run_of_every_asset_looks_at_the_layout_first(
    asset: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sharded = small_dataset(tmp_path)
    commit_shards(sharded)
    for name in ("00001", "00009"):
        commit_partition(Store.of(sharded), IMAGE_SHARDS if name == "00009" else DEDUP_PARQUET, name, sharded.layout)
    if asset == KNN_INDICES:
        for key in ("0", "1"):
            commit_partition(Store.of(sharded), CLIP_EMBEDDINGS, key, sharded.layout)
    monkeypatch.setenv("LAION_ASSETS_ROOT", sharded.root)
    job = build_definitions(sharded).resolve_implicit_global_asset_job_def()
    tags = {"dagster/asset_partition_range_start": "0", "dagster/asset_partition_range_end": "1"}
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey([sharded.name, asset])],
            tags=tags if asset == CLIP_EMBEDDINGS else {},
            raise_on_error=False,
        )
    logged = [event.step_failure_data.error.to_string() for event in result.all_events if event.is_step_failure]
    assert any("partitions of another layout" in text and "00009" in text for text in logged)


def test_status_and_check_name_partitions_of_another_layout(eight: Dataset) -> None:
    three = replace(eight, layout=THREE)
    freshness = DatasetStatus(three)
    old = old_partitions(three, freshness.store, IMAGE_SHARDS)[IMAGE_SHARDS]
    found = summarize(freshness.states(IMAGE_SHARDS), "all", old)
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert "5 of another layout" in str(found.description)
    assert "00003" in str(found.metadata["of_another_layout"].value)


FOREIGN = {
    DEDUP_PARQUET: ("00", "dedup_rejects/00.parquet"),
    IMAGE_SHARDS: ("00002", "image_shards/00002.tar"),
    CLIP_EMBEDDINGS: ("1", "clip_embeddings/metadata/metadata_1.parquet"),
    KNN_INDICES: ("all", "knn_indices/image.index"),
    IMAGE_STATISTICS: ("all", "statistics/image_statistics.json"),
    PUBLISHED_PARQUET: ("all", "published_parquet/files.json"),
}


@pytest.mark.parametrize("asset", FOREIGN)
@pytest.mark.parametrize("where", ["local", "memory"])
def test_a_file_that_is_not_ours_is_never_overwritten(asset: str, where: str, tmp_path: Path) -> None:
    root = str(tmp_path) if where == "local" else f"memory://{tmp_path.name}"
    dataset = replace(SAMPLE, root=root, layout=THREE)
    store, (key, path) = Store.of(dataset), FOREIGN[asset]
    store.write_bytes(path, b"of somebody")
    with pytest.raises(StoreError, match=f"{asset} would overwrite .*{path}.*Move it away, or choose another root"):
        prepare_store(dataset, asset, (2 if asset == IMAGE_SHARDS else 1 if asset == CLIP_EMBEDDINGS else 0,))
    for _ in range(2):  # The first refusal must not make it ours.
        with pytest.raises(StoreError, match="would overwrite"):
            commit_partition(store, asset, key, THREE)
    assert store.read_bytes(path) == b"of somebody"
    assert read_manifest(store, asset, key) is None
    store.delete(path)
    commit_partition(store, asset, key, THREE)
    assert store.read_bytes(path) == b"x"


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_a_folder_or_a_link_in_our_place_is_not_ours(tmp_path: Path, kind: str) -> None:
    dataset = replace(SAMPLE, root=str(tmp_path), layout=THREE)
    place = tmp_path / "sample/image_shards/00000.tar"
    place.parent.mkdir(parents=True)
    place.mkdir() if kind == "folder" else place.symlink_to("/etc/passwd")
    with pytest.raises(StoreError, match=r"would overwrite .*00000\.tar"):
        prepare_store(dataset, IMAGE_SHARDS, (0, 1))
    with pytest.raises(StoreError, match=r"would overwrite .*00000\.tar"):
        commit_partition(Store.of(dataset), IMAGE_SHARDS, "00000", THREE)
    assert place.is_dir() if kind == "folder" else place.is_symlink()


def test_a_partition_whose_manifest_was_removed_is_rebuilt(tmp_path: Path) -> None:
    """Error messages ask to remove a manifest: this program moved the files that it names."""
    dataset = replace(SAMPLE, root=str(tmp_path), layout=THREE)
    store = Store.of(dataset)
    commit_partition(store, IMAGE_SHARDS, "00000", THREE)
    store.delete(manifest_path(IMAGE_SHARDS, "00000"))
    prepare_store(dataset, IMAGE_SHARDS, (0,))
    commit_partition(store, IMAGE_SHARDS, "00000", THREE, b"new")
    assert store.read_bytes("image_shards/00000.tar") == b"new"


def test_a_lease_of_an_earlier_version_is_evidence_too(tmp_path: Path) -> None:
    dataset = replace(SAMPLE, root=str(tmp_path), layout=THREE)
    store = Store.of(dataset)
    store.write_bytes("image_shards/00000.tar", b"x")
    store.write_bytes(f"leases/{IMAGE_SHARDS}/00000/000003", b"{}")
    prepare_store(dataset, IMAGE_SHARDS, (0,))
    commit_partition(store, IMAGE_SHARDS, "00000", THREE, b"new")


def test_a_lease_without_moved_files_is_not_evidence(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with lease(store, IMAGE_SHARDS, "00000"):
        pass
    store.write_bytes("image_shards/00000.tar", b"of somebody")
    with pytest.raises(StoreError, match="would overwrite"):
        commit_partition(store, IMAGE_SHARDS, "00000", THREE)


def test_foreign_files_at_other_places_are_left_alone(tmp_path: Path) -> None:
    dataset = replace(SAMPLE, root=str(tmp_path), layout=THREE)
    store = Store.of(dataset)
    for path in ("image_shards/readme.txt", "image_shards/00099.tar", "manifests/image_shards/notes.txt"):
        store.write_bytes(path, b"of somebody")
    prepare_store(dataset, IMAGE_SHARDS, range(3))
    commit_partition(store, IMAGE_SHARDS, "00000", THREE)
    assert remove_old_layout(dataset) == 0
    assert store.read_bytes("image_shards/00099.tar") == b"of somebody"


@pytest.mark.parametrize("published", [False, True])
def test_a_csv_of_somebody_in_raw_csv_is_not_overwritten(tmp_path: Path, published: bool) -> None:
    source = tmp_path / "source"
    source.mkdir()
    dataset = replace(SAMPLE, root=str(tmp_path / "root"), source=str(source))
    store = Store.of(dataset)
    (source / "a.csv").write_bytes(b"url,caption\n")
    if published:
        fetch_raw_csv(dataset, store, lambda line: None)
    (source / "b.csv").write_bytes(b"url,caption\n")
    store.write_bytes("raw_csv/b.csv", b"of somebody")
    with pytest.raises(StoreError, match=r"raw_csv would overwrite .*raw_csv/b\.csv"):
        fetch_raw_csv(dataset, store, lambda line: None)
    assert store.read_bytes("raw_csv/b.csv") == b"of somebody"


def test_parallel_workers_do_not_treat_each_others_files_as_foreign(tmp_path: Path) -> None:
    dataset = replace(SAMPLE, root=str(tmp_path), layout=replace(EIGHT, shards=40, embedding_files=8))
    store, errors = Store.of(dataset), list[BaseException]()

    def work(start: int) -> None:
        try:
            for number in range(40):
                key = f"{(start * 10 + number) % 40:05d}"
                prepare_store(dataset, IMAGE_SHARDS, range(40))
                recover(store, IMAGE_SHARDS, key)
                commit_partition(store, IMAGE_SHARDS, key, dataset.layout)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert {state.state for state in DatasetStatus(dataset).states(IMAGE_SHARDS)} == {"stale"}


def test_a_complete_asset_costs_one_listing_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = replace(SAMPLE, root=str(tmp_path), layout=THREE)
    store = Store.of(dataset)
    for number in range(3):
        commit_partition(store, IMAGE_SHARDS, f"{number:05d}", THREE)
    prepare_store(dataset, IMAGE_SHARDS, range(3))
    calls: list[str] = []
    counted: dict[str, Callable[..., object]] = {}
    for name in ("names", "size", "exists", "read_bytes"):
        counted[name] = getattr(Store, name)

        def call(self: Store, *args: object, name: str = name, **more: object) -> object:
            calls.append(f"{name} {args[0]}")
            return counted[name](self, *args, **more)

        monkeypatch.setattr(Store, name, call)
    prepare_store(dataset, IMAGE_SHARDS, range(3))
    settings = f"settings/{IMAGE_SHARDS}/{settings_digest(dataset, IMAGE_SHARDS)}.json"
    assert calls == [f"read_bytes {RECORD}", "names manifests/image_shards", f"size {settings}"]


def test_the_command_line_names_and_removes_another_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAION_ASSETS_ROOT", str(tmp_path))
    store = Store.of(replace(SAMPLE, root=str(tmp_path)))
    for key in ("00023", "00024"):
        commit_partition(store, IMAGE_SHARDS, key, SAMPLE.layout)
    shown = CliRunner().invoke(cli, ["status", "-d", "sample"])
    assert "partitions of another layout: image_shards 00024 (1)" in shown.output
    counted = CliRunner().invoke(cli, ["status", "-d", "sample", "--json", "--check"])
    assert json.loads(counted.stdout)[IMAGE_SHARDS]["old_layout"] == 1
    assert counted.exit_code == 1

    monkeypatch.setattr(runs, "materialize", lambda *arguments, **named: [])
    ran = CliRunner().invoke(cli, ["materialize", "-d", "sample", RAW_CSV])
    assert (ran.exit_code, store.size("image_shards/00024.tar")) == (1, 1)
    assert "laion-assets relayout --dataset sample" in str(ran.exception)
    ran = CliRunner().invoke(cli, ["materialize", "-d", "sample", RAW_CSV, "--remove-old-layout"])
    assert "removing image_shards 00024 (1)" in ran.output
    assert "removed 1 partitions of other layouts" in ran.output
    assert store.names("image_shards") == ["00023.idx", "00023.parquet", "00023.tar", "00023_stats.json"]
    assert store.names("manifests/image_shards") == ["00023.json"]


def test_relayout_shows_asks_and_removes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layout = "layout = { parquet_files = 1, shards = 3, embedding_files = 2, rows_per_shard = 50 }"
    (tmp_path / "laion-assets.toml").write_text(f"[dataset.mine]\n{layout}\n")
    store = Store(str(tmp_path / "data" / "mine"))
    for key in ("00002", "00003"):
        commit_partition(store, IMAGE_SHARDS, key, EIGHT)

    def run(*options: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli, ["relayout", "-d", "mine", *options])
        return done.exit_code, done.output + str(done.exception)

    assert "image_shards" in run("--dry-run")[1]
    assert "1 partitions of mine would be removed. To do it, add --yes." in run()[1]
    assert store.size("image_shards/00003.tar") == 1
    assert "removed 1 partitions. Next: laion-assets materialize --dataset mine" in run("--yes")[1]
    assert store.names("image_shards") == ["00002.idx", "00002.parquet", "00002.tar", "00002_stats.json"]
    assert "Every partition of mine belongs to its declared layout" in run()[1]
