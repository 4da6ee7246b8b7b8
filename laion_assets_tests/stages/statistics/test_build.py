"""The statistics of committed partitions: exact, built in parts, checked, and one offline page."""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from laion_assets.cli import cli
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets.errors import IncompleteError
from laion_assets.orchestration.checks.row_counts import verify
from laion_assets.stages.registry import stage_names
from laion_assets.stages.statistics.build import REPORT, build_statistics, read_summaries
from laion_assets.stages.statistics.handle import DATASET_STATISTICS, IMAGE_STATISTICS, Statistics
from laion_assets.stages.status import DatasetStatus
from laion_assets.store.store import Store
from laion_assets_tests.stages.statistics.tables import (
    HOSTILE,
    commit_dedup,
    commit_shard,
    dedup_rows,
    shard_rows,
)

LAYOUT = Layout(parquet_files=3, shards=7, embedding_files=2, rows_per_shard=250)


@pytest.fixture
def counted(dataset: Dataset) -> Dataset:
    """Three published parquet files and seven shards."""
    dataset = replace(dataset, layout=LAYOUT)
    for partition in range(3):
        commit_dedup(dataset, partition, dedup_rows(partition))
    for shard in range(7):
        commit_shard(dataset, shard, shard_rows(shard))
    return dataset


def build(dataset: Dataset, asset: str) -> list[str]:
    logged: list[str] = []
    build_statistics(dataset, Store.of(dataset), asset, logged.append)
    return logged


def bytes_of(dataset: Dataset) -> dict[str, bytes]:
    root = Path(Store.of(dataset).url) / "statistics"
    return {path.name: path.read_bytes() for path in root.glob("*.*")}


def no_model() -> Any:
    raise AssertionError("no model is needed")


def test_dataset_figures_equal_those_counted_row_by_row(counted: Dataset) -> None:
    build(counted, DATASET_STATISTICS)
    found = read_summaries(Store.of(counted))[DATASET_STATISTICS]
    rows = [row for partition in range(3) for row in dedup_rows(partition)]
    sides = [min(row["WIDTH"], row["HEIGHT"]) for row in rows if row["WIDTH"] and row["HEIGHT"]]
    assert found["rows"] == len(rows) == 120
    assert found["read"] == {"rows": 150, "dropped": {"duplicate": 21, "filtered_width": 9}}
    assert found["partitions"] == {"counted": 3, "declared": 3}
    assert found["at_least"]["256"] == sum(side >= 256 for side in sides)
    assert found["at_least"]["512"] == sum(side >= 512 for side in sides)
    assert found["size_unknown"] == len(rows) - len(sides)
    assert found["captions_missing"] == sum(row["TEXT"] is None for row in rows)
    assert found["similarity_missing"] == sum(row["similarity"] is None for row in rows)
    captions = sorted(len(row["TEXT"]) for row in rows if row["TEXT"])
    assert found["caption_chars"]["0.5"] == captions[(len(captions) - 1) // 2]
    assert set(found["similarity"].values()) <= {-0.25, 0.3, 0.31, 1.0}
    tags = Counter(row["NSFW"] or "(none)" for row in rows)
    assert dict(found["nsfw"]) == tags
    hosts = Counter(
        {"https://A.test/1": "a.test", "ftp://a.test/2": "a.test"}.get(row["URL"], row["URL"]) for row in rows
    )
    assert found["domains"]["distinct"] == 3
    assert dict(map(tuple, found["domains"]["most"]))["a.test"] == hosts["a.test"]
    assert found["source_files"]["most_rows"] == Counter(row["source_file"] for row in rows).most_common(1)[0][1]


def test_image_figures_equal_those_of_the_shards(counted: Dataset) -> None:
    build(counted, IMAGE_STATISTICS)
    found = read_summaries(Store.of(counted))[IMAGE_STATISTICS]
    rows = [row for shard in range(7) for row in shard_rows(shard)]
    good = [row for row in rows if row["status"] == "success"]
    assert (found["rows"], found["successes"]) == (len(rows), len(good))
    assert found["success_rate"] == pytest.approx(len(good) / len(rows), abs=1e-6)
    assert dict(found["reasons"]) == Counter(row["reason"] for row in rows)
    for domain, total, successes in found["domains"]["most"]:
        assert total == sum(domain in row["url"] for row in rows)
        assert successes == sum(domain in row["url"] for row in good)
    assert found["at_least"]["512"] == sum(min(row["original_width"], row["original_height"]) >= 512 for row in good)
    assert found["size_unknown"] == 0


@pytest.mark.parametrize(
    ("asset", "change", "expected"),
    [
        (DATASET_STATISTICS, lambda dataset: commit_dedup(dataset, 1, dedup_rows(9, 44)), "1 counted, 2 unchanged"),
        (IMAGE_STATISTICS, lambda dataset: commit_shard(dataset, 6, shard_rows(9, 33)), "1 counted, 1 unchanged"),
    ],
)
def test_rerun_counts_only_changed_partitions_with_the_same_result(
    counted: Dataset, asset: str, change: Callable[[Dataset], None], expected: str, tmp_path: Path
) -> None:
    build(counted, asset)
    first = bytes_of(counted)
    assert "0 counted" in build(counted, asset)[0]
    assert bytes_of(counted) == first
    change(counted)
    assert DatasetStatus(counted).state(asset, 0).state == "stale"
    assert expected in build(counted, asset)[0]
    assert DatasetStatus(counted).state(asset, 0).state == "complete"
    changed = bytes_of(counted)
    assert changed != first
    root = Path(Store.of(counted).url)
    for folder in ("statistics", f"manifests/{asset}", f"manifests/{asset}_parts"):
        (root / folder).rename(tmp_path / folder.replace("/", "-"))
    build(counted, asset)
    assert bytes_of(counted) == changed


def test_committed_partitions_are_counted_and_their_number_reported(dataset: Dataset) -> None:
    dataset = replace(dataset, layout=LAYOUT)
    with pytest.raises(IncompleteError, match="No partition of sample/dedup_parquet is committed"):
        build(dataset, DATASET_STATISTICS)
    commit_dedup(dataset, 2, dedup_rows(2))
    build(dataset, DATASET_STATISTICS)
    assert read_summaries(Store.of(dataset))[DATASET_STATISTICS]["partitions"] == {"counted": 1, "declared": 3}
    assert DatasetStatus(dataset).state(DATASET_STATISTICS, 0).state == "complete"
    commit_dedup(dataset, 0, dedup_rows(0))
    assert DatasetStatus(dataset).state(DATASET_STATISTICS, 0).state == "stale"


def test_partitions_without_rows_have_statistics_too(dataset: Dataset) -> None:
    dataset = replace(dataset, layout=LAYOUT)
    commit_dedup(dataset, 0, [])
    commit_shard(dataset, 0, [])
    build(dataset, DATASET_STATISTICS)
    build(dataset, IMAGE_STATISTICS)
    assert read_summaries(Store.of(dataset))[DATASET_STATISTICS]["similarity"] == {}
    assert verify(dataset, DATASET_STATISTICS, (0,), no_model) == {}
    assert verify(dataset, IMAGE_STATISTICS, (0,), no_model) == {}


@pytest.mark.parametrize("asset", [DATASET_STATISTICS, IMAGE_STATISTICS])
def test_the_check_finds_counts_that_differ_from_the_manifests(counted: Dataset, asset: str) -> None:
    build(counted, asset)
    assert verify(counted, asset, (0,), no_model) == {}
    path = Path(Store.of(counted).url) / Statistics.counts_path(asset)
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    (problem,) = verify(counted, asset, (0,), no_model)["all"]
    assert "bytes" in problem or "altered" in problem
    build(counted, asset)
    commit_dedup(counted, 1, dedup_rows(1, 39))
    commit_shard(counted, 1, shard_rows(1, 29))
    problems = " / ".join(verify(counted, asset, (0,), no_model)["all"])
    assert "but the manifests of" in problems


def test_report_is_one_page_without_network_requests_and_escapes_text(counted: Dataset) -> None:
    build(counted, DATASET_STATISTICS)
    build(counted, IMAGE_STATISTICS)
    page = (Path(Store.of(counted).url) / REPORT).read_text()
    assert page.count("<svg") == 14, "of so few shards the throughput over time is one point, and no plot"
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r'(?:src|href)="(?!#)', page)
    assert not re.search(r"@import|url\((?!#)", page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert all(target in ids for target in re.findall(r'(?:url\(#|href="#)([^")]+)', page))
    assert HOSTILE not in page


def test_the_command_prints_the_figures_and_where_the_report_is(
    counted: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAION_ASSETS_ROOT", counted.root)
    run = CliRunner()
    none = run.invoke(cli, ["statistics"])
    assert isinstance(none.exception, IncompleteError)
    assert "Materialize its dataset_statistics and image_statistics" in str(none.exception)
    build(counted, DATASET_STATISTICS)
    build(counted, IMAGE_STATISTICS)
    done = run.invoke(cli, ["statistics"], catch_exceptions=False)
    assert re.search(r"unique rows\s+120\s+of 150 read", done.output)
    assert re.search(r"report: .*/sample/statistics/report\.html", done.output)
    as_json = run.invoke(cli, ["statistics", "--json"], catch_exceptions=False)
    assert json.loads(as_json.stdout)[DATASET_STATISTICS]["rows"] == 120


def test_statistics_follow_the_stage_that_they_count(dataset: Dataset) -> None:
    order = stage_names(dataset)
    assert ("dedup_parquet", DATASET_STATISTICS) in list(pairwise(order))
    assert ("image_shards", IMAGE_STATISTICS) in list(pairwise(order))
