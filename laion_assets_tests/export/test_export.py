"""Exports of a small dataset with committed shards, embeddings and indices, to a local folder."""

import dataclasses
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import ExportError, IncompleteError, IntegrityError, LaionAssetsError, LeaseError
from laion_assets.export.request import ExportRequest, SearchSelection
from laion_assets.export.run import ExportReport, estimate_size, plan_export, write_export
from laion_assets.search.query import Searcher
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.stages.image_shards.shard.tar_index import read_index, read_member
from laion_assets.store.lease import lease
from laion_assets.store.manifest import manifest_path
from laion_assets.store.store import Store
from laion_assets_tests.stages.clip_embeddings.fixtures import built
from laion_assets_tests.stages.clip_embeddings.small_dataset import (
    LAYOUT,
    ROWS,
    built_root,
    commit_shard,
    sample_fields,
    small_dataset,
)
from laion_assets_tests.stages.statistics.tables import commit_dedup, dedup_rows

__all__ = ["built"]

IMAGES = sum(ROWS)
SHOWN = [
    (shard, row)
    for shard, rows in enumerate((ROWS[0] + 2, *ROWS[1:]))
    for row in range(rows)
    if row % 3 == 0 and (shard, row) not in ((0, 4), (0, 7))
]
"""Shard and row of the rows with an image whose tag is UNLIKELY, in the order of the dataset."""


def export(dataset: Dataset, output: Path, **fields: Any) -> ExportReport:
    return write_export(plan_export(dataset, ExportRequest(**fields)), str(output))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def members(tar: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(tar) as archive:
        for member in archive:
            yield member.name, archive.extractfile(member).read()  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def small() -> Dataset:
    """The small dataset, shared: do not change its files."""
    return small_dataset(built_root())


def test_webdataset_shards_have_the_bytes_of_their_source(small: Dataset, tmp_path: Path) -> None:
    report = export(small, tmp_path / "out", format="webdataset", rows_per_file=10)
    assert report.files == 3
    suffixes = (".tar", ".parquet", "_stats.json", ".idx")
    names = {f"shards/{number:05d}{suffix}" for number in range(3) for suffix in suffixes}
    assert set(files(tmp_path / "out")) == {"recipe.json", *names}
    store = Store.of(small)
    source = dict(
        each
        for shard in range(LAYOUT.shards)
        for each in members(Path(store.address(ImageShards.path(LAYOUT, shard, ".tar"))))
    )
    exported, keys = dict[str, bytes](), list[str]()
    for number in range(3):
        base = tmp_path / "out" / "shards" / f"{number:05d}"
        shard = dict(members(base.with_suffix(".tar")))
        exported |= shard
        rows = pq.read_table(base.with_suffix(".parquet")).to_pylist()
        assert [name for name in shard if name.endswith(".jpg")] == [f"{row['key']}.jpg" for row in rows]
        assert [json.loads(shard[f"{row['key']}.json"])["uid"] for row in rows] == [row["uid"] for row in rows]
        stats = json.loads(base.with_name(f"{number:05d}_stats.json").read_text())
        assert stats["successes"] == stats["count"] == len(rows) == (10, 10, len(SHOWN) - 20)[number]
        with base.with_suffix(".tar").open("rb") as tar:
            index = read_index(base.with_suffix(".idx").read_text())
            assert {m.name: read_member(tar, m) for sample in index for m in sample} == shard
        keys += [row["key"] for row in rows]
    assert keys == [LAYOUT.sample_key(shard, row) for shard, row in SHOWN]
    assert exported == {name: content for name, content in source.items() if name.partition(".")[0] in set(keys)}


def test_counts_add_up_and_every_row_left_out_has_a_reason(small: Dataset, tmp_path: Path) -> None:
    report = export(small, tmp_path / "out", format="json", where="url LIKE '%photos-00%'")
    rows = ROWS[0] + 2
    shown = [row for row in range(rows) if row % 3 == 0]
    assert report.counts.selected == rows
    assert report.counts.reasons == {"hidden": rows - len(shown)}, "the two failed rows are hidden, too"
    assert report.counts.written == len(files(tmp_path / "out")["rows/00000.jsonl"].splitlines()) == len(shown)


def test_failed_and_hidden_rows_only_if_asked_for(small: Dataset, tmp_path: Path) -> None:
    everything = export(small, tmp_path / "a", format="parquet", include_hidden=True, include_failed=True)
    assert (everything.counts.written, everything.counts.reasons) == (IMAGES + 2, {})
    images = export(small, tmp_path / "b", format="parquet", include_hidden=True)
    assert (images.counts.written, images.counts.reasons) == (IMAGES, {"no_image": 2})
    tags = set(pq.read_table(tmp_path / "b" / "rows" / "00000.parquet")["NSFW"].to_pylist())
    assert tags == {"UNLIKELY", "UNSURE", "NSFW"}


def test_search_show_allows_a_tag(small: Dataset, tmp_path: Path) -> None:
    shown = dataclasses.replace(small, search=dataclasses.replace(small.search, show=("UNSURE",)))
    export(shown, tmp_path / "a", format="parquet")
    tags = set(pq.read_table(tmp_path / "a" / "rows" / "00000.parquet")["NSFW"].to_pylist())
    assert tags == {"UNLIKELY", "UNSURE"}


def test_the_predicate_sees_the_similarity_of_the_embeddings(small: Dataset, tmp_path: Path) -> None:
    export(small, tmp_path / "all", format="parquet")
    everything = pq.read_table(tmp_path / "all" / "rows" / "00000.parquet")
    middle = float(pc.quantile(everything["clip_similarity"], 0.5)[0].as_py())
    export(small, tmp_path / "part", format="parquet", where=f"clip_similarity > {middle}::FLOAT")
    part = pq.read_table(tmp_path / "part" / "rows" / "00000.parquet")
    assert part.equals(everything.filter(pc.greater(everything["clip_similarity"], middle)))
    assert 0 < part.num_rows < everything.num_rows


def test_columns_are_chosen_and_ordered(small: Dataset, tmp_path: Path) -> None:
    export(small, tmp_path / "a", format="csv", columns=("url", "uid"))
    first = files(tmp_path / "a")["rows/00000.csv"].decode().splitlines()[:2]
    fields = sample_fields(0, 0)
    assert first == ['"url","uid"', f'"{fields["url"]}","{fields["uid"]}"']
    with pytest.raises(ExportError, match=r"'nope' of --columns does not exist\. Columns: uid, "):
        export(small, tmp_path / "b", format="csv", columns=("nope",))
    assert not (tmp_path / "b").exists()


def test_uids_that_are_not_exported_have_a_reason_each(small: Dataset, tmp_path: Path) -> None:
    def uid(shard: int, row: int) -> str:
        return sample_fields(shard, row)["uid"]

    listed = [uid(3, 0), uid(1, 3), uid(1, 3), uid(0, 1), uid(0, 4), uid(0, 9), "0" * 32]
    (tmp_path / "list.txt").write_text("\n".join(listed))
    report = export(small, tmp_path / "out", format="json", uids=str(tmp_path / "list.txt"), where="caption <> ''")
    assert report.counts.selected == len(listed)
    # (0, 1) is UNSURE; (0, 4) is UNSURE and failed, and counted once; (0, 9) has no caption
    assert report.counts.reasons == {"duplicate": 1, "hidden": 2, "not_matching": 1, "not_found": 1}
    rows = [json.loads(line) for line in files(tmp_path / "out")["rows/00000.jsonl"].splitlines()]
    assert [row["uid"] for row in rows] == [uid(1, 3), uid(3, 0)], "in the order of the dataset"


def test_search_results_are_nearest_first_with_their_similarity(small: Dataset, tmp_path: Path) -> None:
    search = SearchSelection("red 0 0", 20)
    with Searcher(small) as searcher:
        expected = [each for each in searcher.search(text=search.text, k=search.k) if each.nsfw == "UNLIKELY"]
    report = export(small, tmp_path / "a", format="json", search=search)
    assert (report.counts.selected, report.counts.written) == (20, len(expected))
    assert report.counts.reasons == {"hidden": 20 - len(expected)}
    rows = [json.loads(line) for line in files(tmp_path / "a")["rows/00000.jsonl"].splitlines()]
    assert [row["uid"] for row in rows] == [each.uid for each in expected]
    assert [row["search_similarity"] for row in rows] == pytest.approx([each.similarity for each in expected], abs=1e-6)
    export(small, tmp_path / "b", format="webdataset", search=search, rows_per_file=3)
    tars = sorted((tmp_path / "b" / "shards").glob("*.tar"))
    keys = [name.partition(".")[0] for tar in tars for name, _ in members(tar) if name.endswith(".json")]
    assert keys == [each.key for each in expected]


def test_the_uid_array_is_sorted_although_the_rows_are_not(small: Dataset, tmp_path: Path) -> None:
    report = export(small, tmp_path / "a", format="npy")
    array = np.load(tmp_path / "a" / "uids" / "uids.npy")
    uids = sorted(sample_fields(shard, row)["uid"] for shard, row in SHOWN)
    assert [f"{high:016x}{low:016x}" for high, low in array.tolist()] == uids
    assert report.counts.written == len(uids)
    again = export(small, tmp_path / "b", format="json", uids=str(tmp_path / "a" / "uids" / "uids.npy"))
    assert again.counts.written == len(uids)


@pytest.mark.parametrize("file_format", ["webdataset", "parquet", "csv", "json", "npy"])
def test_two_exports_have_identical_bytes(small: Dataset, tmp_path: Path, file_format: str) -> None:
    fields = {} if file_format == "npy" else {"rows_per_file": 7}
    for name, threads in (("a", 1), ("b", 4)):
        planned = plan_export(small, ExportRequest(file_format, where="width > 0", **fields))
        write_export(planned, str(tmp_path / name), threads=threads)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    recipe = json.loads(files(tmp_path / "a")["recipe.json"])
    for entry in recipe["files"]:
        content = files(tmp_path / "a")[entry["path"]]
        assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["size"], entry["sha256"])


def test_a_dry_run_writes_nothing_and_estimates_the_size(small: Dataset, tmp_path: Path) -> None:
    for file_format in ("webdataset", "parquet", "csv", "json", "npy"):
        planned = plan_export(small, ExportRequest(file_format))
        estimated = estimate_size(planned)
        report = write_export(planned, str(tmp_path / file_format))
        assert report.size == pytest.approx(estimated, rel=0.35), file_format
        assert report.files == planned.files


def test_no_matching_row_is_an_empty_export(small: Dataset, tmp_path: Path) -> None:
    report = export(small, tmp_path / "a", format="webdataset", where="false")
    assert (report.counts.selected, report.files) == (0, 1)
    assert list(members(tmp_path / "a" / "shards" / "00000.tar")) == []


def test_a_folder_with_other_files_is_refused(small: Dataset, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    with pytest.raises(ExportError, match=r"is not empty: it has thesis\.tex\. Nothing was written"):
        export(small, tmp_path / "out", format="json")
    assert list(files(tmp_path / "out")) == ["thesis.tex"]
    with pytest.raises(ExportError, match="is not empty"):
        export(small, Path(Store.of(small).url), format="json")


def test_another_export_in_the_folder_is_refused_and_the_same_one_is_kept(small: Dataset, tmp_path: Path) -> None:
    export(small, tmp_path / "out", format="json")
    before = files(tmp_path / "out")
    with pytest.raises(ExportError, match="has an export of another recipe"):
        export(small, tmp_path / "out", format="json", where="width > 1")
    assert export(small, tmp_path / "out", format="json").counts.written == len(SHOWN)
    assert files(tmp_path / "out") == before
    (tmp_path / "out" / "rows" / "00000.jsonl").write_text("x")
    with pytest.raises(IntegrityError, match="altered after the export"):
        export(small, tmp_path / "out", format="json")


def test_one_process_at_a_time_exports_to_a_folder(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("laion_assets.export.output_folder._LEASE_WAIT_S", 0.1)
    with lease(Store(str(tmp_path / "out")), "export", "all"):
        with pytest.raises(LeaseError):
            export(small, tmp_path / "out", format="json")


VICTIM = """
import os, signal, sys
from laion_assets.export.request import ExportRequest
from laion_assets.export.run import plan_export, write_export
from laion_assets.store.backends.local_folder import LocalFolder
from laion_assets_tests.stages.clip_embeddings.small_dataset import small_dataset
from pathlib import Path

moves, move = 0, LocalFolder.move
def killed(self, *arguments, **named):
    global moves
    moves += 1
    if moves > int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return move(self, *arguments, **named)
LocalFolder.move = killed
import laion_assets_tests.stages.clip_embeddings.small_dataset as small
small.model_name = lambda: "sample-clip"
planned = plan_export(small_dataset(Path(sys.argv[1])), ExportRequest("webdataset", rows_per_file=5))
write_export(planned, sys.argv[2], threads=1)
"""


def test_a_killed_export_leaves_whole_shards_and_is_continued(small: Dataset, tmp_path: Path) -> None:
    """SIGKILL between two moves of the third shard's files."""
    export(small, tmp_path / "undisturbed", format="webdataset", rows_per_file=5)
    out = tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", VICTIM, small.root, str(out), "10"], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    assert not (out / "recipe.json").exists()
    complete = files(tmp_path / "undisturbed")
    left = {name: content for name, content in files(out).items() if name.startswith("shards/")}
    assert len(left) == 10
    assert all(complete[name] == content for name, content in left.items()), "no half file"
    report = export(small, out, format="webdataset", rows_per_file=5)
    assert report.resumed == 3, "the third one is rolled forward"
    assert files(out) == complete


def test_a_changed_shard_is_not_mixed_into_a_killed_export(built: Dataset, tmp_path: Path) -> None:
    planned = plan_export(built, ExportRequest("webdataset", rows_per_file=5))
    commit_shard(built, 1, ROWS[1], jpgs={3: b"another image"})
    with pytest.raises(ExportError, match=r"Shard 00001 .* was committed again during the export"):
        write_export(planned, str(tmp_path / "out"), threads=1)
    with pytest.raises(ExportError, match="another recipe"):
        export(built, tmp_path / "out", format="webdataset", rows_per_file=5)


def test_a_missing_shard_is_logged_and_counted(built: Dataset, tmp_path: Path) -> None:
    Store.of(built).delete(manifest_path("image_shards", "00003"))
    lines: list[str] = []
    planned = plan_export(built, ExportRequest("json"), lines.append)
    assert lines[0] == "1 of 4 shards are not committed: their rows are not exported"
    assert planned.recipe["inputs"]["image_shards"]["missing"] == 1
    commit_dedup(built, 1, dedup_rows(7, 30))  # row group 1, rows 15 to 29, is the missing shard
    (tmp_path / "list.txt").write_text("\n".join(f"07{number:030x}" for number in (3, 14, 15, 20, 29, 30)))
    planned = plan_export(built, ExportRequest("json", uids=str(tmp_path / "list.txt")))
    assert planned.counts.reasons == {"missing_shard": 3, "not_found": 3}


def test_without_a_committed_shard_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(IncompleteError, match="nothing to export"):
        plan_export(small_dataset(tmp_path), ExportRequest("json"))


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-512])


def _swap_samples(path: Path) -> None:
    """Give two samples each other's names, in a tar of the same size."""
    content = dict(members(path))
    first, second = (LAYOUT.sample_key(1, row) for row in (0, 3))
    names = {f"{a}.{suffix}": f"{b}.{suffix}" for a, b in ((first, second), (second, first)) for suffix in ("json",)}
    size = path.stat().st_size
    with tarfile.open(path, "w") as tar:
        for name, stored in content.items():
            stored = content[names.get(name, name)]
            info = tarfile.TarInfo(name)
            info.size = len(stored)
            tar.addfile(info, io.BytesIO(stored))
    path.write_bytes(path.read_bytes()[:size].ljust(size, b"\0"))


@pytest.mark.parametrize("damage", [_truncate, _swap_samples, Path.unlink])
def test_a_damaged_tar_is_refused_by_name(built: Dataset, tmp_path: Path, damage: Any) -> None:
    damage(Path(Store.of(built).address(ImageShards.path(LAYOUT, 1, ".tar"))))
    with pytest.raises(IntegrityError, match=r"00001\.tar"):
        export(built, tmp_path / "out", format="webdataset")
    assert not (tmp_path / "out" / "recipe.json").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "xml"}, "Unknown format 'xml'"),
        ({"format": "webdataset", "columns": ("uid",)}, "--columns is for"),
        ({"format": "npy", "rows_per_file": 5}, "does not apply to npy"),
        ({"format": "webdataset", "rows_per_file": 0}, "expected 1 to 100,000"),
        ({"format": "webdataset", "include_failed": True}, "needs rows with a stored image"),
        ({"format": "csv", "uids": "a.txt", "search": SearchSelection("a", 1)}, "not by both"),
    ],
)
def test_requests_that_contradict_themselves_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(LaionAssetsError, match=message):
        ExportRequest(**fields)
