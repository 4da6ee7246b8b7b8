"""The indices hold every vector under the right id, or are not committed."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import (
    EmbeddingError,
    IncompleteError,
    IndexBuildError,
    LaionAssetsError,
    ModelError,
    SettingError,
)
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS, ClipEmbeddings
from laion_assets.stages.knn_indices.build import build_indices
from laion_assets.stages.knn_indices.check import find_problems
from laion_assets.stages.knn_indices.handle import KNN_INDICES
from laion_assets.stages.knn_indices.settings import IndexSettings
from laion_assets.store.build_result import BuildResult
from laion_assets.store.manifest import Counts, read_manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction
from laion_assets.tables.vector_file import VectorWriter
from laion_assets_tests.stages.clip_embeddings.small_dataset import LAYOUT, commit_shard, random_model
from laion_assets_tests.stages.clip_embeddings.test_build import build as build_embeddings

WIDTH = 32


def build(dataset: Dataset) -> BuildResult:
    return build_indices(dataset, Store.of(dataset), lambda line: None)


def index_of(dataset: Dataset, modality: str = "image") -> faiss.Index:
    return faiss.read_index(str(Store.of(dataset).local_root / KNN_INDICES / f"{modality}.index"))


def commit_vectors(
    dataset: Dataset,
    embedding: int,
    rows: int,
    width: int = WIDTH,
    model: str = "a model",
    change: Callable[[np.ndarray], np.ndarray] | None = None,
) -> None:
    """An embedding file of random unit vectors, with minimal metadata; `change` is applied to the file's images."""
    import pyarrow as pa

    rng = np.random.default_rng(embedding)
    with open_transaction(Store.of(dataset), CLIP_EMBEDDINGS, LAYOUT.embedding_key(embedding)) as transaction:
        for kind in ("img_emb", "text_emb"):
            vectors = rng.normal(size=(rows, width))
            with VectorWriter(transaction.stage(ClipEmbeddings.path(LAYOUT, embedding, kind)), width) as writer:
                writer.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        if change is not None:
            images = transaction.stage(ClipEmbeddings.path(LAYOUT, embedding, "img_emb"))
            np.save(images, change(np.load(images)))
        keys = [LAYOUT.sample_key(2 * embedding, 0)] * rows
        table = pa.table({"image_path": pa.array(keys, pa.string())})
        pq.write_table(table, transaction.stage(ClipEmbeddings.path(LAYOUT, embedding, "metadata")))
        details = {"model": model, "width": width}
        transaction.commit(Counts(rows, rows), settings="s", inputs=f"{rows} {width}", details=details)


def problems_of(dataset: Dataset) -> list[str]:
    """The problems that the asset check finds."""
    return list(find_problems(dataset, Store.of(dataset), 0, lambda: None))  # type: ignore[arg-type, return-value]


def test_id_is_the_row_in_the_concatenated_files(built: Dataset) -> None:
    store = Store.of(built)
    for modality, kind in (("image", "img_emb"), ("text", "text_emb")):
        vectors = np.concatenate([np.load(store.local_root / ClipEmbeddings.path(LAYOUT, i, kind)) for i in (0, 1)])
        index = index_of(built, modality)
        assert index.ntotal == len(vectors) == 70
        near, ids = index.search(vectors.astype(np.float32), 1)
        np.testing.assert_allclose(near[:, 0], 1, atol=2e-3)
        # Captions that are empty are equal, so their vectors are: any of them is right.
        same = (vectors[ids[:, 0]].astype(np.float32) * vectors.astype(np.float32)).sum(axis=1)
        np.testing.assert_allclose(same, 1, atol=2e-3)
        if modality == "image":
            np.testing.assert_array_equal(ids[:, 0], np.arange(70))


def test_manifest_and_json_describe_the_index(built: Dataset) -> None:
    manifest = read_manifest(Store.of(built), KNN_INDICES, "all")
    assert (manifest.counts.rows_in, manifest.counts.rows_out) == (70, 70)
    assert (manifest.details["model"], manifest.details["width"]) == (random_model().identity, 128)
    assert manifest.details["rows"] == [40, 30]
    for modality in ("image", "text"):
        details = manifest.details[modality]
        assert details["ntotal"] == 70
        assert details["recall_at_10"] == {"image": 1.0, "text": 1.0}
        infos = json.loads((Store.of(built).local_root / KNN_INDICES / f"{modality}.json").read_text())
        assert infos["recall@10"] == details["recall_at_10"]
        assert infos["nb vectors"] == 70
        assert infos["index_path"] == f"knn_indices/{modality}.index"


def test_metadata_equals_that_of_the_embedding_files(built: Dataset) -> None:
    root = Store.of(built).local_root
    for embedding in (0, 1):
        source = root / ClipEmbeddings.path(LAYOUT, embedding, "metadata")
        copy = root / KNN_INDICES / "metadata" / source.name
        assert copy.read_bytes() == source.read_bytes()
    paths = json.loads((root / KNN_INDICES / "indices_paths.json").read_text())
    assert list(paths) == ["small"]
    assert Path(paths["small"]).name == KNN_INDICES


def test_metadata_is_hard_linked(bare: Dataset) -> None:
    for embedding in (0, 1):
        commit_vectors(bare, embedding, 20)
    build(bare)
    root = Store.of(bare).local_root
    source = root / ClipEmbeddings.path(LAYOUT, 0, "metadata")
    assert os.path.samefile(source, root / KNN_INDICES / "metadata" / source.name)


def test_complete_indices_are_not_rebuilt(built: Dataset) -> None:
    assert not build(built).was_built


def test_damaged_index_is_rebuilt(built: Dataset) -> None:
    path = Store.of(built).local_root / KNN_INDICES / "image.index"
    content = bytearray(path.read_bytes())
    content[-50] ^= 0x10
    path.write_bytes(content)
    assert build(built).was_built
    assert path.read_bytes() != bytes(content)
    assert not build(built).was_built


def test_changed_embeddings_cause_a_rebuild(built: Dataset) -> None:
    commit_shard(built, 3, 12)
    build_embeddings(built, 1)
    made = build(built)
    assert made.was_built
    assert index_of(built).ntotal == made.manifest.counts.rows_out == 52


@pytest.mark.parametrize("rows", [(1, 0), (0, 1), (2, 3), (9, 0), (300, 38)])
def test_few_vectors_produce_a_working_index(bare: Dataset, rows: tuple[int, int]) -> None:
    for embedding, count in enumerate(rows):
        commit_vectors(bare, embedding, count)
    manifest, _ = build(bare)
    assert index_of(bare).ntotal == sum(rows)
    assert manifest.details["image"]["recall_at_10"]["text"] == 1.0


def test_small_uncompressed_index_is_searched_exhaustively(bare: Dataset) -> None:
    commit_vectors(bare, 0, 1_500)
    commit_vectors(bare, 1, 700)
    details = build(bare).manifest.details["image"]
    lists = details["index_key"].removeprefix("IVF").removesuffix(",Flat")
    assert details["index_param"] == f"nprobe={lists}"
    assert details["recall_at_10"] == {"image": 1.0, "text": 1.0}


def test_quantised_index_has_every_vector_and_reports_its_recall(bare: Dataset) -> None:
    commit_vectors(bare, 0, 5_500, width=16)
    commit_vectors(bare, 1, 4_500, width=16)
    small = replace(bare, index=IndexSettings("300K", "2G", recall_queries=20, cores=1))
    details = build(small).manifest.details["image"]
    assert "PQ" in details["index_key"]
    assert details["ntotal"] == 10_000
    assert 0.05 < details["recall_at_10"]["image"] < 1
    strict = replace(small, index=replace(small.index, min_recall=0.999))
    assert problems_of(small) == []
    assert any("image.index has a recall@10 of 0." in problem for problem in problems_of(strict))
    assert not build(strict).was_built, "a complete index is not built again for another floor"


def test_recall_below_its_floor_commits_nothing_and_keeps_the_old_index(bare: Dataset) -> None:
    strict = replace(bare, index=IndexSettings("300K", "2G", recall_queries=20, min_recall=0.999, cores=1))
    for embedding in (0, 1):
        commit_vectors(bare, embedding, 20, width=16)
    before = build(strict).manifest
    commit_vectors(bare, 0, 5_500, width=16)
    commit_vectors(bare, 1, 4_500, width=16)
    with pytest.raises(IndexBuildError, match=r"image\.index has a recall@10 of 0\.\d+.*max_index_memory_usage"):
        build(strict)
    assert read_manifest(Store.of(bare), KNN_INDICES, "all") == before
    assert index_of(bare).ntotal == 40


def test_no_vectors_are_an_error(bare: Dataset) -> None:
    commit_vectors(bare, 0, 0)
    commit_vectors(bare, 1, 0)
    with pytest.raises(IndexBuildError, match="small has no vectors"):
        build(bare)


@pytest.mark.parametrize(
    ("most", "available", "message"),
    [
        ("1K", "2G", "small enough"),
        ("200M", "200M", "increase current_memory_available"),
        ("10M", "11M", "increase current_memory_available"),
    ],
)
def test_too_little_memory_is_an_error_with_the_setting(bare: Dataset, most: str, available: str, message: str) -> None:
    commit_vectors(bare, 0, 6_000)
    commit_vectors(bare, 1, 5_000)
    dataset = replace(bare, index=IndexSettings(most, available, recall_queries=5, cores=2))
    with pytest.raises(IndexBuildError, match=message) as raised:
        build(dataset)
    assert "index.current_memory_available" in str(raised.value)
    assert read_manifest(Store.of(bare), KNN_INDICES, "all") is None


def test_old_index_stays_committed_if_the_build_fails(built: Dataset) -> None:
    before = read_manifest(Store.of(built), KNN_INDICES, "all")
    with pytest.raises(IndexBuildError):
        build(replace(built, index=IndexSettings("199M", "199M")))
    assert read_manifest(Store.of(built), KNN_INDICES, "all") == before
    assert index_of(built).ntotal == 70


def test_a_missing_embedding_file_is_named(bare: Dataset) -> None:
    commit_vectors(bare, 0, 5)
    with pytest.raises(IncompleteError, match=r"clip_embeddings of small.*1 "):
        build(bare)


def test_an_embedding_file_of_another_model_is_named(bare: Dataset) -> None:
    commit_vectors(bare, 0, 5)
    commit_vectors(bare, 1, 5, model="another model")
    with pytest.raises(ModelError, match=r"1 \(another model\).*a model"):
        build(bare)


def test_an_embedding_file_of_another_width_is_named(bare: Dataset) -> None:
    commit_vectors(bare, 0, 5)
    commit_vectors(bare, 1, 5, width=16)
    with pytest.raises(EmbeddingError, match=r"1 \(16\)"):
        build(bare)


@pytest.mark.parametrize("kind", ["img_emb", "text_emb"])
def test_an_npy_of_another_width_is_named(bare: Dataset, kind: str) -> None:
    """Its size matches the manifest, but it is refused: autofaiss would read garbage."""
    commit_vectors(bare, 0, 8)
    commit_vectors(bare, 1, 8)
    path = Store.of(bare).local_root / ClipEmbeddings.path(LAYOUT, 1, kind)
    np.save(path, np.load(path).reshape(16, 16))
    with pytest.raises(EmbeddingError, match=rf"{kind}_1\.npy.*width 16.*32"):
        build(bare)


class Payload:
    """An object whose unpickling creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


FOREIGN = {
    "float32": (lambda array: array.astype(np.float32), "float32"),
    "big-endian": (lambda array: array.astype(">f2"), ">f2"),
    "Fortran order": (np.asfortranarray, "Fortran"),
    "another width": (lambda array: array.reshape(-1, 16), "width 16"),
    "fewer rows": (lambda array: array[:-1], "7 rows"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_an_npy_of_another_kind_is_named_and_nothing_is_committed(bare: Dataset, kind: str) -> None:
    change, message = FOREIGN[kind]
    commit_vectors(bare, 0, 8)
    commit_vectors(bare, 1, 8, change=change)
    with pytest.raises(LaionAssetsError, match=rf"img_emb_1\.npy.*{message}"):
        build(bare)
    assert read_manifest(Store.of(bare), KNN_INDICES, "all") is None


def test_pickled_objects_in_an_npy_are_refused_and_not_loaded(bare: Dataset, tmp_path: Path) -> None:
    loaded = tmp_path / "loaded"
    commit_vectors(bare, 0, 8)
    commit_vectors(bare, 1, 8, change=lambda array: np.array([[Payload(loaded)] * WIDTH] * 8, dtype=object))
    with pytest.raises(EmbeddingError, match=r"img_emb_1\.npy.*pickled"):
        build(bare)
    assert not loaded.exists()


def test_foreign_files_among_the_embeddings_are_ignored(bare: Dataset) -> None:
    commit_vectors(bare, 0, 8)
    commit_vectors(bare, 1, 8)
    folder = Store.of(bare).local_root / CLIP_EMBEDDINGS / "img_emb"
    np.save(folder / "img_emb_000.npy", np.ones((5, WIDTH), np.float16))
    (folder / "readme.json").write_text("{}")
    assert build(bare).manifest.counts.rows_out == 16
    assert index_of(bare).ntotal == 16


def test_metadata_of_the_previous_index_is_removed(built: Dataset) -> None:
    folder = Store.of(built).local_root / KNN_INDICES / "metadata"
    one = replace(built, layout=replace(LAYOUT, embedding_files=1))
    Store.of(built).delete(f"manifests/{CLIP_EMBEDDINGS}")
    build_embeddings(one, 0)
    build(one)
    assert [path.name for path in folder.iterdir()] == ["metadata_0.parquet"]


def test_invalid_settings_are_rejected() -> None:
    with pytest.raises(SettingError, match=r"index\.metric_type"):
        IndexSettings(metric_type="cosine")
    with pytest.raises(SettingError, match=r"index\.recall_queries"):
        IndexSettings(recall_queries=0)
    with pytest.raises(SettingError, match="16 buckets"):
        IndexSettings("16 buckets")
