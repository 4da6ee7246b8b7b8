"""Datasets that start from published parquet files: read in place, the same output, changes are noticed."""

import io
import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets.definitions import build_definitions
from laion_assets.errors import IncompleteError, IntegrityError, SettingError, SourceError
from laion_assets.http.sources.dataset_policy import source_policy
from laion_assets.http.sources.source_policy import SourcePolicy
from laion_assets.orchestration.checks.row_counts import verify
from laion_assets.orchestration.runs import materialize
from laion_assets.stages.dedup_parquet.build import build_dedup_parquet
from laion_assets.stages.dedup_parquet.handle import DedupParquet
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.stages.plan import check_source, make_plan
from laion_assets.stages.published_parquet.build import observe_published, read_list
from laion_assets.stages.published_parquet.handle import PUBLISHED_PARQUET, PublishedParquet
from laion_assets.stages.registry import find_stage, partition_paths, pipeline_names
from laion_assets.stages.stage import inputs_digest
from laion_assets.stages.status import DatasetStatus
from laion_assets.store.manifest import Counts
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction
from laion_assets.tables.published_files import open_published
from laion_assets_tests.stages.dedup_parquet.tables import publish_csvs, quiet
from laion_assets_tests.stages.dedup_parquet.test_dedup import messy_files, rows_of
from laion_assets_tests.stages.dedup_parquet.test_dedup_cluster import STORE_VARIABLES
from laion_assets_tests.stages.raw_csv.csv_site import CsvSite

LAYOUT = Layout(parquet_files=3, shards=7, embedding_files=2, rows_per_shard=250)
ROWS = [{"URL": f"https://a.test/{n}.jpg", "TEXT": f"picture {n}", "similarity": 0.3, "WIDTH": n} for n in range(9)]


def parquet(rows: list[dict[str, Any]] = ROWS) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


@pytest.fixture
def shared(dataset: Dataset, tmp_path: Path) -> Dataset:
    """A dataset that starts from a folder of two parquet files."""
    folder = tmp_path / "shared" / "part"
    folder.mkdir(parents=True)
    (folder / "0.parquet").write_bytes(parquet(ROWS[:5]))
    (folder / "1.parquet").write_bytes(parquet(ROWS[5:]))
    (folder / "readme.txt").write_text("not a table")
    named = (str(tmp_path / "shared"),)
    return replace(dataset, layout=LAYOUT, dedup=DedupSettings(), published=named)


def observe(dataset: Dataset) -> Any:
    return observe_published(dataset, Store.of(dataset), quiet)


def test_dataset_rebuilt_from_its_own_output_has_the_same_rows(dataset: Dataset, tmp_path: Path, spark: Any) -> None:
    first = replace(dataset, layout=LAYOUT, dedup=DedupSettings())
    publish_csvs(first, messy_files())
    build_dedup_parquet(spark, first, Store.of(first), range(3), quiet)
    again = replace(first, root=str(tmp_path / "again"), published=(f"{Store.of(first).url}/dedup_parquet/*.parquet",))
    with pytest.raises(IncompleteError, match="published_parquet of sample is not complete"):
        build_dedup_parquet(spark, again, Store.of(again), range(3), quiet)
    observed = observe(again)
    manifests = build_dedup_parquet(spark, again, Store.of(again), range(3), quiet)

    def traced(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{name: value for name, value in row.items() if not name.startswith("source_")} for row in rows]

    expected = rows_of(first)
    assert traced(rows_of(again)) == traced(expected)
    assert observed.details["rows"] == len(expected) == sum(manifest.counts.rows_in for manifest in manifests)
    assert Counter(row["source_file"] for row in rows_of(again)) == {
        f"{number:02d}.parquet": manifest.counts.rows_out for number, manifest in enumerate(manifests)
    }
    assert not (Path(Store.of(again).url) / "raw_csv").exists(), "nothing is copied"
    assert [state.state for state in DatasetStatus(again).states("dedup_parquet")] == ["complete"] * 3
    assert verify(again, "dedup_parquet", (0, 1, 2), lambda: pytest.fail("no model is needed")) == {}


def test_observation_is_committed_and_changed_files_are_refused(shared: Dataset) -> None:
    manifest = observe(shared)
    files = read_list(Store.of(shared))
    assert [(file.path, file.rows) for file in files] == [("part/0.parquet", 5), ("part/1.parquet", 4)]
    assert manifest.details["rows"] == 9
    assert (manifest.counts.rows_in, manifest.counts.rows_out) == (2, 2)
    assert observe(shared).content == manifest.content
    changed = Path(shared.published[0]) / "part" / "1.parquet"
    changed.write_bytes(parquet(ROWS[4:]))
    with (
        pytest.raises(IntegrityError, match=r"1\.parquet changed since it was observed"),
        open_published(files[1], SourcePolicy()),
    ):
        pass
    assert "1.parquet changed" in str(verify(shared, "published_parquet", (0,), lambda: pytest.fail("no model")))
    again = observe(shared)
    assert again.content != manifest.content
    assert again.details["rows"] == 10


@pytest.mark.parametrize("content", ["[" * 100_000, "[1]", '[{"path": 1, "other": 2}]', "{", '{"a": 1}'])
def test_invalid_list_with_a_valid_manifest_is_refused(shared: Dataset, content: str) -> None:
    store = Store.of(shared)
    with open_transaction(store, PUBLISHED_PARQUET) as transaction:
        transaction.stage(PublishedParquet.LIST).write_text(content, encoding="utf-8")
        transaction.commit(Counts(1, 1), settings="s", inputs="")
    with pytest.raises(IntegrityError, match="is not a list of files"):
        read_list(store)
    assert observe(shared).content, "an altered list is written again"


def test_file_with_a_new_date_and_the_same_footer_is_read(shared: Dataset) -> None:
    observe(shared)
    (file, _) = read_list(Store.of(shared))
    os.utime(Path(shared.published[0]) / file.path, (0, 0))
    with open_published(file, source_policy(shared)) as opened:
        assert pq.ParquetFile(opened).metadata.num_rows == 5


def test_files_are_read_over_http_in_place(shared: Dataset, site: CsvSite) -> None:
    site.files["deep/a.parquet"] = parquet(ROWS[:3])
    site.files["deep/b.csv"] = b"URL|TEXT\n"
    listed = replace(shared, published=(site.url,))
    observe(listed)
    (file,) = read_list(Store.of(listed))
    assert (file.path, file.rows, file.size) == ("deep/a.parquet", 3, len(site.files["deep/a.parquet"]))
    with open_published(file, source_policy(listed)) as opened:
        assert pq.read_table(opened).num_rows == 3
    observe(replace(shared, published=(f"{site.url}deep/a.parquet",)))
    assert [each.path for each in read_list(Store.of(shared))] == ["a.parquet"]


@pytest.mark.parametrize("named", ["", "/part/*.parquet", "/part"])
def test_files_in_an_object_store_are_read_in_place(
    shared: Dataset, object_store: str, spark: Any, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """Spark's workers read the same rows as from a folder. A replaced file is noticed."""
    for name in STORE_VARIABLES:
        monkeypatch.setitem(spark.sparkContext.environment, name, os.environ[name])
    there = f"{object_store}/published{len(named)}"
    fs, base = fsspec.core.url_to_fs(there)
    for number, rows in enumerate((ROWS[:5], ROWS[5:])):
        fs.pipe_file(f"{base}/part/{number}.parquet", parquet(rows))
    fs.pipe_file(f"{base}/part/readme.txt", b"not a table")
    remote = replace(shared, published=(f"{there}{named}",), root=f"{shared.root}/remote")
    manifest = observe(remote)
    files = read_list(Store.of(remote))
    assert [file.rows for file in files] == [5, 4]
    assert all(file.url.startswith("s3://") for file in files)
    build_dedup_parquet(spark, remote, Store.of(remote), range(3), quiet)
    observe(shared)
    build_dedup_parquet(spark, shared, Store.of(shared), range(3), quiet)
    uids = [row["uid"] for row in rows_of(remote)]
    assert uids == [row["uid"] for row in rows_of(shared)]
    assert len(uids) == len(ROWS)
    assert observe(remote).content == manifest.content
    fs.pipe_file(f"{base}/part/1.parquet", parquet(ROWS[4:]))
    with (
        pytest.raises(IntegrityError, match=r"1\.parquet changed since it was observed"),
        open_published(files[1], SourcePolicy()),
    ):
        pass
    assert observe(remote).details["rows"] == 10


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("part/2.parquet", b"PAR1 cut", r"2\.parquet is not a readable parquet file"),
        ("part/2.parquet", parquet()[:-5], r"2\.parquet is not a readable parquet file"),
        ("part/2.parquet", parquet([{"URL": "https://a.test/1.jpg"}]), r"2\.parquet has no column TEXT"),
        ("part/2.parquet", parquet([{"URL": 1, "TEXT": "a"}]), "URL is int64, expected a string"),
        ("part/2.parquet", parquet([{"URL": "x", "TEXT": "a", "WIDTH": [1]}]), "expected a number or a string"),
    ],
)
def test_unreadable_file_is_refused_by_name(shared: Dataset, name: str, content: bytes, message: str) -> None:
    (Path(shared.published[0]) / name).write_bytes(content)
    with pytest.raises(SourceError, match=message):
        observe(shared)


def test_empty_and_ambiguous_settings_are_refused(shared: Dataset, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No parquet files in"):
        observe(replace(shared, published=(str(tmp_path / "none"),)))
    part = f"{shared.published[0]}/part"
    other = tmp_path / "other"
    other.mkdir()
    (other / "0.parquet").write_bytes(parquet())
    with pytest.raises(SourceError, match="have the same name"):
        observe(replace(shared, published=(part, str(other))))
    with pytest.raises(SettingError, match="names no published parquet files"):
        observe(replace(shared, published=()))


def test_graph_has_an_external_asset_in_the_place_of_raw_csv(
    shared: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster_home"))
    graph = build_definitions(shared).resolve_asset_graph()
    key = dg.AssetKey(["sample", "published_parquet"])
    assert pipeline_names(shared)[0] == "published_parquet"
    assert graph.get(dg.AssetKey(["sample", "dedup_parquet"])).parent_keys == {key}
    assert graph.get(key).is_observable
    assert not graph.get(key).is_materializable
    assert not graph.has(dg.AssetKey(["sample", "raw_csv"]))
    (report,) = materialize(shared, ["published_parquet"])
    assert (report.rows_in, report.rows_out, report.ran) == (2, 2, 1)
    with dg.DagsterInstance.get() as instance:
        (seen,) = instance.fetch_observations(key, limit=5).records
    observation = seen.asset_observation
    assert observation is not None
    assert observation.metadata["dagster/row_count"].value == 9
    assert observation.metadata["parquet_files"].value == 2
    assert json.loads((Path(Store.of(shared).url) / "published_parquet" / "files.json").read_text())[0]["rows"] == 5
    assert DedupParquet.of(shared).partitions == (0, 1, 2)


def test_a_plan_names_the_published_files_that_changed(shared: Dataset) -> None:
    store, stages = Store.of(shared), (PUBLISHED_PARQUET, "dedup_parquet")
    observe_published(shared, store, quiet)
    with open_transaction(store, "dedup_parquet", "00") as transaction:
        for path in partition_paths("dedup_parquet", "00", shared.layout):
            transaction.stage(path).write_bytes(b"x")
        stage, manifest = find_stage("dedup_parquet"), PublishedParquet.of(shared).manifest(0)
        inputs = inputs_digest("00", [manifest])
        transaction.commit(Counts(9, 9), settings=stage.settings_digest(shared), inputs=inputs)
    source, dedup = make_plan(shared, stages, changes=check_source(shared, stages))
    assert (source.why, source.changed_files) == ({"observed in each run": 1}, ())
    assert (dedup.to_run, dedup.may_run) == (2, 0)
    Path(shared.published[0], "part", "2.parquet").write_bytes(parquet())
    source, dedup = make_plan(shared, stages, changes=check_source(shared, stages))
    assert (source.why, source.changed_files) == ({"source changed": 1}, ("part/2.parquet (new)",))
    assert (dedup.to_run, dedup.may_run) == (2, 1)
    Path(store.local_path(PublishedParquet.LIST) or "").write_text("[]")
    assert check_source(shared, stages) is None
