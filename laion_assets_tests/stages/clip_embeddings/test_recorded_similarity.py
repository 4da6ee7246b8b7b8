"""The cosines of the rows are compared with those that the crawl recorded: counts, differences, plot."""

import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.stages.clip_embeddings import io_manager
from laion_assets.stages.clip_embeddings.build import build_embedding_file
from laion_assets.stages.clip_embeddings.handle import ClipEmbeddings
from laion_assets.stages.clip_embeddings.io_manager import ClipEmbeddingsIOManager
from laion_assets.stages.clip_embeddings.recorded_similarity import compare_similarity, describe_comparison
from laion_assets.store.manifest import Manifest
from laion_assets.store.store import Store
from laion_assets_tests.stages.clip_embeddings import small_dataset
from laion_assets_tests.stages.clip_embeddings.small_dataset import LAYOUT, SCHEMA, commit_shard, random_model


def build(dataset: Dataset, logged: list[str] | None = None) -> Manifest:
    log = (lambda line: None) if logged is None else logged.append
    return build_embedding_file(dataset, Store.of(dataset), 0, random_model(), log).manifest


def metadata_file(folder: Path, recorded: list[float | None], encoded: list[float]) -> Path:
    columns = {"similarity": pa.array(recorded, pa.float64()), "clip_similarity": pa.array(encoded, pa.float32())}
    pq.write_table(pa.table(columns), folder / "metadata.parquet")
    return folder / "metadata.parquet"


def test_rows_that_differ_are_counted_and_rows_without_a_value_left_out(tmp_path: Path) -> None:
    recorded = [0.30, 0.30, 0.30, None, math.nan, 0.40]
    encoded = [0.39, 0.41, 0.19, 0.30, 0.30, 0.40]
    compared = compare_similarity(metadata_file(tmp_path, recorded, encoded))
    assert compared is not None
    assert compared.details == {
        "rows": 4,
        "rows_without": 2,
        "differing": 2,
        "mean_difference": pytest.approx((0.09 + 0.11 - 0.11) / 4, abs=1e-4),
        "median_difference": pytest.approx(0.045, abs=1e-4),
        "correlation": pytest.approx(np.corrcoef([0.3, 0.3, 0.3, 0.4], [0.39, 0.41, 0.19, 0.4])[0, 1], abs=1e-4),
    }
    told = describe_comparison(compared.details)
    assert told.startswith("2 of 4 rows (50.0%) have a clip_similarity that differs by more than 0.1")
    assert "median difference +0.045" in told


@pytest.mark.parametrize(("recorded", "encoded"), [([], []), ([None], [0.5]), ([0.3], [0.5])])
def test_files_of_few_rows_have_no_correlation(tmp_path: Path, recorded: list, encoded: list[float]) -> None:
    compared = compare_similarity(metadata_file(tmp_path, recorded, encoded))
    assert compared is not None
    assert compared.details["correlation"] is None
    rows = sum(value is not None for value in recorded)
    assert compared.details["rows"] == compared.differing == rows
    assert ("1 of 1 rows" in describe_comparison(compared.details)) == bool(rows)


def test_the_manifest_has_the_figures_of_the_files(sharded: Dataset) -> None:
    logged: list[str] = []
    details = build(sharded, logged).details["recorded_similarity"]
    root = Store.of(sharded).local_root
    assert root is not None
    images, texts = (
        np.load(root / ClipEmbeddings.path(LAYOUT, 0, kind)).astype(np.float64) for kind in ("img_emb", "text_emb")
    )
    recorded = pq.read_table(root / ClipEmbeddings.path(LAYOUT, 0, "metadata"))["similarity"].to_numpy()
    known = np.isfinite(recorded)
    difference = ((images * texts).sum(axis=1) - recorded)[known]
    assert (details["rows"], details["rows_without"]) == (38, 2)
    assert details["differing"] == (abs(difference) > 0.1).sum() > 0
    assert details["median_difference"] == pytest.approx(np.median(difference), abs=2e-3)
    assert details["mean_difference"] == pytest.approx(difference.mean(), abs=2e-3)
    assert any(f"{details['differing']} of 38 rows" in line for line in logged)


def test_shards_without_the_column_are_named(bare: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_dataset, "SCHEMA", SCHEMA.remove(SCHEMA.get_field_index("similarity")))
    commit_shard(bare, 0, 3)
    commit_shard(bare, 1, 2)
    logged: list[str] = []
    manifest = build(bare, logged)
    assert manifest.details["recorded_similarity"] is None
    assert any("not compared" in line and "images.additional_columns" in line for line in logged)
    metadata = ClipEmbeddingsIOManager(bare).describe(0, manifest)
    assert "not compared" in metadata["recorded_similarity"].value
    assert not [name for name in metadata if name.startswith("similarity_")]


def test_a_column_that_is_no_number_is_not_compared(tmp_path: Path) -> None:
    table = pa.table({"similarity": ["high"], "clip_similarity": pa.array([0.3], pa.float32())})
    pq.write_table(table, tmp_path / "metadata.parquet")
    assert compare_similarity(tmp_path / "metadata.parquet") is None


def test_the_dagster_ui_shows_counts_and_a_plot(sharded: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = build(sharded)
    monkeypatch.setattr(io_manager, "PLOTS_A_RUN", 1)
    shown = ClipEmbeddingsIOManager(sharded)
    metadata = shown.describe(0, manifest)
    details = manifest.details["recorded_similarity"]
    assert metadata["similarity_rows_compared"].value == 38
    assert metadata["similarity_rows_differing"].value == details["differing"]
    assert metadata["similarity_median_difference"].value == details["median_difference"]
    assert "data:image/svg+xml;base64," in metadata["similarity_plot"].value
    assert len(metadata["similarity_plot"].value) < 60_000
    assert "similarity_plot" not in shown.describe(0, manifest), "the plots of a run are limited"


def test_the_plot_is_valid_and_the_same_for_the_same_rows(tmp_path: Path) -> None:
    compared = compare_similarity(metadata_file(tmp_path, [0.3, 0.31, 0.35], [0.3, 0.31, -0.2]))
    assert compared is not None
    drawn = compared.plot()
    assert drawn == compared.plot()
    texts = [element.text for element in ElementTree.fromstring(drawn).iter() if element.tag.endswith("text")]
    assert {"clip_similarity", "similarity recorded by the crawl"} <= set(texts)
    other = compare_similarity(metadata_file(tmp_path, [0.3, 0.31, 0.35], [0.3, 0.31, 0.2]))
    assert other is not None
    assert other.plot() != drawn
