"""dedup_parquet with a real Spark: the row-count invariant, the kept row, and the same bytes in every build."""

import hashlib
import random
import shutil
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.identity import compute_uid, rows_digest
from laion_assets.dataset.layout import Layout
from laion_assets.errors import IncompleteError, LayoutError, SettingError, SourceError
from laion_assets.sample.crawl import build_crawl
from laion_assets.stages.dedup_parquet import build as dedup
from laion_assets.stages.dedup_parquet.build import build_dedup_parquet, group_files
from laion_assets.stages.dedup_parquet.handle import DedupParquet
from laion_assets.stages.dedup_parquet.inputs import Inputs
from laion_assets.stages.dedup_parquet.rows.row_filter import RowFilter
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.stages.dedup_parquet.spark.partition_writer import PartitionWriter
from laion_assets.stages.dedup_parquet.uid_lookup import find_uid
from laion_assets.stages.status import DatasetStatus
from laion_assets.store.store import Store
from laion_assets.tables.columns import DEDUP_SCHEMA, REJECTS_SCHEMA
from laion_assets_tests.stages.dedup_parquet.tables import COLUMNS, publish_csvs, quiet, row, table

LAYOUT = Layout(parquet_files=3, shards=7, embedding_files=2, rows_per_shard=250)


def messy_files(seed: int = 1) -> dict[str, bytes]:
    """CSV files with different headers, duplicates across files, and malformed lines."""
    rng = random.Random(seed)
    files = {}
    for number in range(6):
        columns = list(COLUMNS) if number % 2 else rng.sample([*COLUMNS, "language"], 9)
        rows = []
        for _ in range(120):
            page = rng.randrange(300)
            caption = rng.choice([f"caption {page}", f'"{page}"', f"two\nlines|{page}", ""])
            similarity = rng.choice(["0.3", "0.31", "0.32", "nan", "6016.0", ""])
            rows.append(
                row(
                    URL=f"http://a.test/{page}.jpg",
                    TEXT=caption,
                    similarity=similarity,
                    SAMPLE_ID=rng.choice(["", "5", "7", str(rng.randrange(100))]),
                    WIDTH=rng.choice(["10", "20", ""]),
                    NSFW=rng.choice(["NSFW", "UNSURE", ""]),
                )
            )
        lines = table(rows, columns).split(b"\n")
        lines[1:1] = [b"too|few", b"caf\xe9|" * 7]
        files[f"d{number % 2}/{number}.csv"] = b"\n".join(lines)
    files["old.csv"] = table([row(URL=f"http://old.test/{n}") for n in range(20)], COLUMNS[:-1])
    files["empty.csv"] = b""
    files["header.csv"] = table([])
    return files


@pytest.fixture
def crawl(dataset: Dataset) -> Dataset:
    """The sample with another layout and the default settings of the stage."""
    return replace(dataset, layout=LAYOUT, dedup=DedupSettings())


def sha256s(dataset: Dataset) -> dict[str, str]:
    """Return the sha256 of each committed file of the stage."""
    root = Path(Store.of(dataset).url)
    files = [*root.glob("dedup_parquet/*"), *root.glob("dedup_rejects/*")]
    return {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def rows_of(dataset: Dataset) -> list[dict[str, Any]]:
    """Return all committed rows, in order."""
    handle, store = DedupParquet.of(dataset), Store.of(dataset)
    paths = [handle.path(dataset.layout, number) for number in handle.partitions]
    return [each for path in paths for each in pq.read_table(store.address(path)).to_pylist()]


def test_row_count_invariant_holds_in_the_files(crawl: Dataset, spark: Any) -> None:
    publish_csvs(crawl, messy_files())
    manifests = build_dedup_parquet(spark, crawl, Store.of(crawl), range(3), quiet)
    kept = rows_of(crawl)
    assert sum(manifest.counts.rows_in for manifest in manifests) == 6 * 122 + 20
    assert sum(manifest.counts.rows_out for manifest in manifests) == len(kept)
    reasons = sum((Counter(manifest.counts.reasons) for manifest in manifests), Counter())
    assert reasons == {
        "duplicate": 6 * 120 - len(kept),
        "wrong_token_count": 6 + 3,
        "invalid_utf8": 3,
        "file_without_similarity": 20,
    }
    assert len({(each["URL"], each["TEXT"] or "") for each in kept}) == len({each["uid"] for each in kept}) == len(kept)
    for each in kept:
        assert each["uid"] == compute_uid(each["URL"], each["TEXT"])
        assert each["similarity"] is None or -1 <= each["similarity"] <= 1
    files = sum((Counter(manifest.details["files"]) for manifest in manifests), Counter())
    assert files == {"read": 6, "file_without_similarity": 1, "empty": 1, "header_only": 1}
    notes = sum((Counter(manifest.details["notes"]) for manifest in manifests), Counter())
    assert notes["similarity_out_of_range"] > 50
    assert all(state.state == "complete" for state in DatasetStatus(crawl).states("dedup_parquet"))


def test_sample_crawl_has_the_expected_counts(dataset: Dataset, spark: Any) -> None:
    crawl = build_crawl()
    publish_csvs(dataset, {file.path: file.content for file in crawl.files})
    manifests = build_dedup_parquet(spark, dataset, Store.of(dataset), range(4), quiet)
    reasons = sum((Counter(manifest.counts.reasons) for manifest in manifests), Counter())
    assert sum(manifest.counts.rows_in for manifest in manifests) == crawl.counts.raw
    assert sum(manifest.counts.rows_out for manifest in manifests) == crawl.counts.unique
    assert reasons.pop("duplicate") == crawl.counts.duplicate
    assert reasons.pop("file_without_similarity") == crawl.counts.left_out
    assert sum(reasons.values()) == crawl.counts.malformed


def test_rejects_can_be_read_back(crawl: Dataset, spark: Any) -> None:
    files = messy_files()
    publish_csvs(crawl, files)
    manifests = build_dedup_parquet(spark, crawl, Store.of(crawl), range(3), quiet)
    for number, manifest in enumerate(manifests):
        rejects = pq.read_table(Store.of(crawl).address(DedupParquet.rejects_path(LAYOUT, number)))
        assert rejects.schema.equals(REJECTS_SCHEMA)
        counted = dict(manifest.counts.reasons)
        counted.pop("duplicate")
        assert Counter(rejects["reason"].to_pylist()) == counted
        for each in rejects.to_pylist():
            assert each["raw"] in files[each["source_file"]]
            assert LAYOUT.parquet_of_uid(hashlib.md5(each["raw"]).hexdigest()) == number


def test_filtered_rows_are_counted_and_never_kept(crawl: Dataset, spark: Any) -> None:
    filters = RowFilter(max_similarity=0.315, nsfw=("unsure", ""))
    crawl = replace(crawl, dedup=DedupSettings(where=filters))
    publish_csvs(crawl, messy_files())
    manifests = build_dedup_parquet(spark, crawl, Store.of(crawl), range(3), quiet)
    assert sum(manifest.counts.rows_in for manifest in manifests) == 6 * 122 + 20
    for number, manifest in enumerate(manifests):
        rejects = pq.read_table(Store.of(crawl).address(DedupParquet.rejects_path(LAYOUT, number))).to_pylist()
        dropped = [each for each in rejects if each["reason"].startswith("filtered")]
        assert Counter(each["reason"] for each in dropped) == {
            reason: count for reason, count in manifest.counts.reasons.items() if reason.startswith("filtered")
        }
        assert {each["reason"] for each in dropped} == {"filtered_similarity", "filtered_nsfw"}
        assert {(each["raw"], each["raw_bytes"]) for each in dropped} == {(b"", 0)}
        assert all(each["source_file"] in messy_files() and each["source_row"] > 0 for each in dropped)
    # Each uid also came with a similarity of 0.32 or null: such a row is filtered before the kept row is chosen.
    assert {each["similarity"] for each in rows_of(crawl)} == {0.3, 0.31}


def test_rows_are_sorted_in_their_range_with_one_row_group_per_shard(crawl: Dataset, spark: Any) -> None:
    publish_csvs(crawl, messy_files())
    manifests = build_dedup_parquet(spark, crawl, Store.of(crawl), range(3), quiet)
    handle = DedupParquet.of(crawl)
    for number, manifest in enumerate(manifests):
        file = pq.ParquetFile(Store.of(crawl).address(handle.path(LAYOUT, number)))
        assert file.schema_arrow.equals(DEDUP_SCHEMA)
        uids = file.read(["uid"])["uid"].to_pylist()
        assert uids == sorted(set(uids))
        assert {LAYOUT.parquet_of_uid(uid) for uid in uids} == {number}
        shards = LAYOUT.shards_of_parquet(number)
        assert file.num_row_groups == len(shards)
        assert set(manifest.outputs) == {LAYOUT.shard_key(shard) for shard in shards}
        for position, shard in enumerate(shards):
            group = handle.shard_rows(shard)
            assert group.num_rows == len(LAYOUT.rows_of_shard(position, len(shards), len(uids)))
            assert rows_digest(group) == manifest.outputs[LAYOUT.shard_key(shard)]
            assert file.metadata.row_group(position).column(0).is_stats_set


def test_a_uid_is_found_by_the_bounds_of_row_groups(crawl: Dataset, spark: Any) -> None:
    publish_csvs(crawl, messy_files())
    store = Store.of(crawl)
    with pytest.raises(IncompleteError, match="dedup_parquet 02"):
        find_uid(crawl, store, "f" * 32)
    build_dedup_parquet(spark, crawl, store, range(3), quiet)
    for shard in range(LAYOUT.shards):
        rows = DedupParquet.of(crawl).shard_rows(shard).to_pylist()
        for place in (0, len(rows) // 2, len(rows) - 1):
            found = find_uid(crawl, store, rows[place]["uid"].upper())
            assert found is not None
            assert (found.shard, found.row, found.values) == (shard, place, rows[place])
            assert found.key == LAYOUT.sample_key(shard, place)
    assert find_uid(crawl, store, "0" * 32) is None
    assert find_uid(crawl, store, compute_uid("http://a.test/not-there.jpg", None)) is None
    with pytest.raises(SettingError, match="32 hexadecimal digits"):
        find_uid(crawl, store, "not-a-uid")


def test_bytes_do_not_depend_on_file_order_parallelism_or_partitions(
    crawl: Dataset, spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_csvs(crawl, messy_files())
    build_dedup_parquet(spark, crawl, Store.of(crawl), range(3), quiet)
    expected = sha256s(crawl)
    assert len(expected) == 6
    for folder in ("manifests/dedup_parquet", "dedup_parquet", "dedup_rejects"):
        shutil.rmtree(Path(Store.of(crawl).url) / folder)
    monkeypatch.setattr(dedup, "GROUP_BYTES", 1)
    monkeypatch.setattr(dedup, "RUN_BYTES", 5_000)
    monkeypatch.setattr(dedup, "RANGE_BYTES", 3_000)
    build_dedup_parquet(spark, crawl, Store.of(crawl), [1], quiet)
    alone = sha256s(crawl)
    assert alone == {name: sha for name, sha in expected.items() if "/01." in name}
    shutil.rmtree(Path(Store.of(crawl).url) / "manifests/dedup_parquet")
    monkeypatch.setattr(dedup, "group_files", lambda files, size, at_least: [list(files)[::-1]])
    build_dedup_parquet(spark, crawl, Store.of(crawl), [2, 0, 1], quiet)
    assert sha256s(crawl) == expected


def test_kept_row_does_not_depend_on_file_names(crawl: Dataset, spark: Any) -> None:
    """Each later row is preferred: nulls last, then by similarity, SAMPLE_ID and the other columns."""
    better = [
        row(similarity="", SAMPLE_ID="", HEIGHT="", WIDTH="", LICENSE="", NSFW="", TEXT=""),
        row(similarity="", SAMPLE_ID="", HEIGHT="", WIDTH="", LICENSE="", NSFW="UNSURE", TEXT=""),
        row(similarity="", SAMPLE_ID="", HEIGHT="", WIDTH="", LICENSE="?", NSFW="", TEXT=""),
        row(similarity="", SAMPLE_ID="", HEIGHT="", WIDTH="5", LICENSE="", NSFW="", TEXT=""),
        row(similarity="", SAMPLE_ID="", HEIGHT="900", WIDTH="", LICENSE="", NSFW="", TEXT=""),
        row(similarity="", SAMPLE_ID="", HEIGHT="90", WIDTH="", LICENSE="", NSFW="", TEXT=""),
        row(similarity="nan", SAMPLE_ID="10", TEXT=""),
        row(similarity="6016", SAMPLE_ID="9", TEXT=""),
        row(similarity="-0.5", SAMPLE_ID="9", TEXT=""),
        row(similarity="0", SAMPLE_ID="10", TEXT=""),
        row(similarity="-0.0", SAMPLE_ID="9", TEXT=""),
        row(similarity="0.3", SAMPLE_ID="", TEXT=""),
        row(similarity="0.3", SAMPLE_ID="10", TEXT=""),
        row(similarity="0.3", SAMPLE_ID="9", TEXT="", NSFW="UNSURE"),
        row(similarity="0.3", SAMPLE_ID="9", TEXT="", NSFW="NSFW"),
    ]
    one = replace(crawl, layout=Layout(1, 1, 1, 10_000))
    # One file holds the pair (k, k + 1) for each k, told apart by URL: 14 contests at once, in both orders.
    for flip in (False, True):
        first, second, expected = [], [], []
        for number, (worse, best) in enumerate(pairwise(better)):
            url = f"http://contest.test/{number}"
            (first if flip else second).append({**best, "URL": url})
            (second if flip else first).append({**worse, "URL": url})
            expected.append((url, best["NSFW"] or None, best["SAMPLE_ID"]))
        publish_csvs(one, {"a.csv": table(first), "b.csv": table(second)})
        (manifest,) = build_dedup_parquet(spark, one, Store.of(one), [0], quiet)
        kept = {each["URL"]: each for each in rows_of(one)}
        assert manifest.counts.reasons == {"duplicate": len(expected)}
        for number, (url, _, _) in enumerate(expected):
            assert kept[url]["source_file"] == ("a.csv" if flip else "b.csv"), better[number + 1]


def test_of_identical_rows_the_first_file_and_row_is_kept(crawl: Dataset, spark: Any) -> None:
    one = replace(crawl, layout=Layout(1, 1, 1, 10_000))
    publish_csvs(one, {"b.csv": table([row()] * 3), "a.csv": table([row(TEXT="other"), row(), row()])})
    build_dedup_parquet(spark, one, Store.of(one), [0], quiet)
    assert [(each["source_file"], each["source_row"]) for each in rows_of(one) if each["TEXT"] == "a caption"] == [
        ("a.csv", 2)
    ]


def test_too_many_rows_for_the_shards_are_refused_before_anything_is_written(crawl: Dataset, spark: Any) -> None:
    small = replace(crawl, layout=replace(LAYOUT, rows_per_shard=20))
    publish_csvs(small, messy_files())
    with pytest.raises(LayoutError, match="rows_per_shard"):
        build_dedup_parquet(spark, small, Store.of(small), range(3), quiet)
    root = Path(Store.of(small).url)
    assert not list(root.glob("dedup_*"))
    assert not list(root.glob("manifests/dedup_parquet/*"))
    assert not list(root.glob("staging/dedup_parquet/*/*"))


def test_without_rows_the_files_are_empty_and_valid(crawl: Dataset, spark: Any) -> None:
    publish_csvs(crawl, {"empty.csv": b""})
    manifests = build_dedup_parquet(spark, crawl, Store.of(crawl), range(3), quiet)
    assert [manifest.counts.rows_in for manifest in manifests] == [0, 0, 0]
    for shard in range(LAYOUT.shards):
        assert DedupParquet.of(crawl).shard_rows(shard).num_rows == 0


def test_complete_partitions_are_not_rebuilt(crawl: Dataset, spark: Any) -> None:
    publish_csvs(crawl, messy_files())
    first = build_dedup_parquet(spark, crawl, Store.of(crawl), range(3), quiet)
    assert build_dedup_parquet(None, crawl, Store.of(crawl), range(3), quiet) == first
    altered = Path(Store.of(crawl).address(first[1].files[0].path))
    altered.write_bytes(altered.read_bytes()[:-1] + b"x")
    again = build_dedup_parquet(spark, crawl, Store.of(crawl), range(3), quiet)
    assert [manifest.files for manifest in again] == [manifest.files for manifest in first]
    assert again[0].committed_at == first[0].committed_at
    changed = replace(crawl, dedup=replace(crawl.dedup, max_caption_chars=5))
    other = build_dedup_parquet(spark, changed, Store.of(crawl), range(3), quiet)
    assert other[0].settings != first[0].settings


def test_error_of_a_reading_task_is_raised_with_its_type(crawl: Dataset, spark: Any) -> None:
    publish_csvs(crawl, {"a.csv": table([row()]), "page.parquet": b"<html>not found</html>"})
    with pytest.raises(SourceError, match=r"page\.parquet is not a readable parquet file"):
        build_dedup_parquet(spark, crawl, Store.of(crawl), [0], quiet)


def test_missing_raw_csv_is_refused_by_name(crawl: Dataset) -> None:
    with pytest.raises(IncompleteError, match="raw_csv of sample"):
        build_dedup_parquet(None, crawl, Store.of(crawl), [0], quiet)
    manifest = publish_csvs(crawl, {"a.csv": table([row()])})
    Path(Store.of(crawl).address(manifest.files[0].path)).unlink()
    with pytest.raises(IncompleteError, match=r"a\.csv is missing"):
        build_dedup_parquet(None, crawl, Store.of(crawl), [0], quiet)


def test_files_are_grouped_by_size() -> None:
    files = [(f"{number}.csv", number * 10) for number in range(50)]
    groups = group_files(files, 1_000, 2)
    assert sorted(file for group in groups for file in group) == sorted(files)
    sizes = [sum(size for _, size in group) for group in groups]
    assert max(sizes) - min(sizes) <= 490
    assert group_files([], 1_000, 4) == [[]]
    assert len(group_files(files[:3], 1_000_000, 2)) == 2


def test_spark_plan_has_one_exchange_of_rows_and_no_sort(crawl: Dataset, spark: Any) -> None:
    files = pa.table({"group": pa.array([0], pa.int32()), "path": ["a.csv"], "size": [1]})
    reader = dedup._ReadTask(Inputs(Store.of(crawl), ()), crawl.dedup, LAYOUT, (0, 1, 2), dedup.RUN_BYTES)
    writer = PartitionWriter(Store.of(crawl), LAYOUT, (0, 1, 2), "", {})
    physical = dedup.plan_job(spark, files, 1, reader, writer)._jdf.queryExecution().sparkPlan().toString()
    steps = [line.strip(" +-:") for line in physical.splitlines()]
    written, gathered, read, grouped, *listed = [step.split("(")[0].split(" ")[0] for step in steps if step]
    # From the end: runs are written, gathered by partition, read from files; below, the list of files is dealt out.
    assert (written, gathered, read, grouped) == ("MapInArrow", "Exchange", "MapInArrow", "Exchange")
    assert not {"Exchange", "Sort"} & set(listed)
