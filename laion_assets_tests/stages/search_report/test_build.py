"""The search report answers each query, measures the indices, is skipped while current, and its check finds changes."""

import functools
import io
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from PIL import Image

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IncompleteError, IntegrityError, SettingError
from laion_assets.search.contact_sheet import contact_sheet
from laion_assets.stages.clip_embeddings.build import build_embedding_file
from laion_assets.stages.search_report.build import build_report
from laion_assets.stages.search_report.check import find_problems
from laion_assets.stages.search_report.handle import CONTACT_SHEET, FIGURES, PAGE, SEARCH_REPORT, SearchReport
from laion_assets.stages.search_report.io_manager import SearchReportIOManager
from laion_assets.stages.search_report.settings import SearchReportSettings
from laion_assets.stages.status import DatasetStatus
from laion_assets.store.build_result import BuildResult
from laion_assets.store.manifest import build_file_entry, manifest_path, read_manifest
from laion_assets.store.store import Store
from laion_assets_tests.stages.clip_embeddings.fixtures import bare, built, sharded
from laion_assets_tests.stages.clip_embeddings.small_dataset import (
    built_root,
    commit_shard,
    random_model,
    small_dataset,
)

__all__ = ["bare", "built", "sharded"]

QUERIES = ("a red tree", "星の夜", '<script>alert("x")</script>')
OPTIONS = SearchReportSettings(queries=QUERIES, results=4, recall_queries=20, near_duplicates=6)


@pytest.fixture
def dataset(built: Dataset) -> Dataset:
    """The small dataset without a report."""
    return replace(built, search_report=OPTIONS)


@functools.cache
def reported_root() -> Path:
    """A root with a report of the small dataset; copy it before changing it."""
    root = Path(tempfile.mkdtemp(prefix="laion-assets-test-"))
    shutil.copytree(built_root(), root, dirs_exist_ok=True)
    build(replace(small_dataset(root), search_report=OPTIONS))
    return root


@pytest.fixture
def reported(tmp_path: Path) -> Dataset:
    """The small dataset with its report: a copy of one's own."""
    shutil.copytree(reported_root(), tmp_path, dirs_exist_ok=True)
    return replace(small_dataset(tmp_path), search_report=OPTIONS)


def build(dataset: Dataset) -> BuildResult:
    return build_report(dataset, Store.of(dataset), random_model, lambda line: None)


def figures(dataset: Dataset) -> dict[str, Any]:
    return json.loads(Store.of(dataset).read_bytes(FIGURES))


def problems(dataset: Dataset) -> list[str]:
    return list(find_problems(dataset, Store.of(dataset), 0, random_model))


def test_each_query_is_answered_with_images_that_may_be_shown(dataset: Dataset) -> None:
    done = build(dataset)
    assert done.was_built
    assert (done.manifest.counts.rows_in, done.manifest.counts.rows_out) == (3, 3)
    found = figures(dataset)
    assert [answer["query"] for answer in found["queries"]] == list(QUERIES)
    for answer in found["queries"]:
        assert len(answer["results"]) == 4
        # Rows 0, 3, 6, ... of a shard are UNLIKELY: the key ends with the row.
        assert all(int(result["key"]) % 10_000 % 3 == 0 for result in answer["results"])
        similarities = [result["similarity"] for result in answer["results"]]
        assert similarities == sorted(similarities, reverse=True)
    assert sum(answer["hidden"] for answer in found["queries"]) > 0
    assert problems(dataset) == []


def test_recall_and_latency_are_measured_by_kind(reported: Dataset) -> None:
    found = figures(reported)
    kinds = [(each["index"], each["kind"], each["queries"]) for each in found["recall"]]
    expected = [("text", 3), ("caption", 20), ("image", 20), ("near-duplicate", 6)]
    assert kinds == [(index, kind, count) for index in ("image", "text") for kind, count in expected]
    assert all(each["recall_at_10"] == 1 for each in found["recall"]), "so few vectors are searched exhaustively"
    copies = found["near_duplicates"]
    assert copies["images"] == 6
    assert 0 < copies["first"] <= copies["in_ten"] <= 6
    assert [each["step"] for each in found["latency"]] == ["encode the text", "search the index", "whole query"]
    assert all(0 < each["p50_ms"] <= each["p99_ms"] for each in found["latency"])


def test_recall_may_be_left_out_where_reading_all_vectors_takes_too_long(dataset: Dataset) -> None:
    shutil.rmtree(Path(Store.of(dataset).url) / "clip_embeddings")
    build(replace(dataset, search_report=replace(OPTIONS, recall_queries=0)))
    found = figures(dataset)
    assert found["recall"] == []
    assert found["near_duplicates"]["images"] == 0
    assert len(found["latency"]) == 3
    assert "recall@10" not in (Path(Store.of(dataset).url) / PAGE).read_text("utf-8")


def test_it_is_skipped_while_current_and_stale_with_other_queries(reported: Dataset) -> None:
    assert not build(reported).was_built
    assert DatasetStatus(reported).state(SEARCH_REPORT, 0).state == "complete"
    other = replace(reported, search_report=replace(OPTIONS, queries=("another query",)))
    assert DatasetStatus(other).state(SEARCH_REPORT, 0).state == "stale"
    assert build(other).was_built
    assert [answer["query"] for answer in figures(other)["queries"]] == ["another query"]


def test_without_indices_it_names_what_is_missing(sharded: Dataset) -> None:
    with pytest.raises(IncompleteError, match="knn_indices"):
        build(sharded)
    assert DatasetStatus(sharded).state(SEARCH_REPORT, 0).state == "missing"


def test_embeddings_that_were_rebuilt_after_the_indices_are_refused(dataset: Dataset) -> None:
    store = Store.of(dataset)
    commit_shard(dataset, 3, 12)
    build_embedding_file(dataset, store, 1, random_model(), lambda line: None)
    with pytest.raises(IntegrityError, match=r"img_emb_1\.npy was rebuilt after the indices.*Materialize knn_indices"):
        build(dataset)
    assert read_manifest(store, SEARCH_REPORT, "all") is None


def test_results_without_a_stored_shard_have_no_image(dataset: Dataset) -> None:
    """Embeddings of other programs can be adopted without their shards."""
    root = Path(Store.of(dataset).url)
    shutil.rmtree(root / "image_shards")
    shutil.rmtree(root / "manifests/image_shards")
    build(dataset)
    assert figures(dataset)["near_duplicates"]["images"] == 0
    page = (root / PAGE).read_text("utf-8")
    assert "no image" in page
    assert "<img" not in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found["queries"].pop(), "answers 2 queries, but its manifest lists 3"),
        (lambda found: found["queries"].append(found["queries"][0]), "is answered 2 times"),
        (lambda found: found["queries"][0]["results"][0].update(row=1), "is tagged UNSURE"),
        (lambda found: found["queries"][0]["results"][0].update(caption="another"), "has another caption than row"),
    ],
)
def test_check_finds_a_report_that_violates_the_invariant(reported: Dataset, change: Any, message: str) -> None:
    """The file and its hash in the manifest are changed together, as a faulty build would write them."""
    store = Store.of(reported)
    found = figures(reported)
    change(found)
    path = Path(store.url) / FIGURES
    path.write_text(json.dumps(found))
    entry = build_file_entry(path, FIGURES)
    stored = Path(store.url) / manifest_path(SEARCH_REPORT, "all")
    manifest = json.loads(stored.read_text())
    for file in manifest["files"]:
        if file["path"] == FIGURES:
            file.update(size=entry.size, sha256=entry.sha256)
    stored.write_text(json.dumps(manifest))
    assert any(message in problem for problem in problems(reported)), problems(reported)


def test_check_finds_an_altered_page(reported: Dataset) -> None:
    path = Path(Store.of(reported).url) / PAGE
    path.write_text(path.read_text("utf-8").replace("search report", "Search report"), "utf-8")
    assert len(problems(reported)) == 1


def test_dagster_metadata_has_tables_and_a_small_sheet(reported: Dataset) -> None:
    manifest = SearchReport.of(reported).manifest(0)
    metadata = SearchReportIOManager(reported).build_metadata(0, manifest)
    results = metadata["results"]
    assert isinstance(results, dg.TableMetadataValue)
    assert [record.data["query"] for record in results.records][::4] == list(QUERIES)
    assert len(metadata["recall_at_10"].records) == 8
    for name, kind in (("contact_sheet", "jpeg"), ("plots", "svg+xml")):
        drawn = metadata[name].value
        assert drawn.count("](data:image/") == drawn.count(f"](data:image/{kind};base64,") == 1
        assert len(drawn) < 400_000


def test_contact_sheet_has_a_section_per_query(reported: Dataset) -> None:
    with Image.open(Path(Store.of(reported).url) / CONTACT_SHEET) as sheet:
        one = Image.open(io.BytesIO(contact_sheet("a query", [(b"", ["line"])] * 4)))
        assert (sheet.width, sheet.height) == (one.width, 3 * one.height)


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ((), "search_report.queries"),
        (("",), "search_report.queries"),
        (("twice", "twice"), "has a text twice"),
        (("x" * 1_001,), "1,001 characters"),
        (tuple(map(str, range(101))), "the maximum is 100"),
    ],
)
def test_invalid_queries_are_refused(queries: tuple[str, ...], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        SearchReportSettings(queries=queries)
