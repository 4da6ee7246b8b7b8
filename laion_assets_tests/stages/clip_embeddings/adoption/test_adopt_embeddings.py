"""Embeddings that clip-retrieval's inference made from img2dataset's shards become complete partitions."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.dataset import SAMPLE_MODEL, Dataset
from laion_assets.orchestration import adoption
from laion_assets.orchestration.checks.row_counts import verify
from laion_assets.search.query import Searcher
from laion_assets.stages.clip_embeddings.build import build_embedding_file
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS, ClipEmbeddings
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.knn_indices.build import build_indices
from laion_assets.stages.status import DatasetStatus, State
from laion_assets.store.store import Store
from laion_assets.tables.vector_file import open_vectors
from laion_assets_tests.stages.adopted_files import (
    ROWS,
    SHARDS,
    change_tar,
    clip_retrieval_embeddings,
    empty_dataset,
    img2dataset_shards,
    own_copy,
    run_clip_retrieval,
)
from laion_assets_tests.stages.clip_embeddings.small_dataset import random_model

IMAGES = SHARDS * ROWS - 4
KINDS = ("img_emb", "text_emb")


def adopt(dataset: Dataset, folder: Path, **options: bool) -> adoption.AdoptionReport:
    return adoption.adopt(dataset, CLIP_EMBEDDINGS, folder, **options)


def local(dataset: Dataset, kind: str, embedding: int = 0) -> Path:
    return Path(Store.of(dataset).address(ClipEmbeddings.path(dataset.layout, embedding, kind)))


def states(dataset: Dataset) -> set[tuple[State, str]]:
    return {(state.state, state.reason) for state in DatasetStatus(dataset).states(CLIP_EMBEDDINGS)}


def test_embeddings_in_the_order_of_the_shards_are_linked(dataset: Dataset, folder: Path) -> None:
    report = adopt(dataset, folder)
    assert (report.refused, report.adopted, report.methods) == ([], ["0"], {"hard link": 1})
    assert (report.rows_in, report.rows_out, report.reasons) == (IMAGES, IMAGES, {})
    for kind in KINDS:
        assert local(dataset, kind).samefile(folder / kind / f"{kind}_0.npy")
    assert states(dataset) == {(State.COMPLETE, "")}
    assert verify(dataset, CLIP_EMBEDDINGS, (0,), random_model) == {}
    manifest = ClipEmbeddings.of(dataset).manifest(0)
    assert manifest.details["adopted"]["program"] == "clip-retrieval"
    assert set(manifest.details["adopted"]["files"]) == {
        "img_emb/img_emb_0.npy",
        "text_emb/text_emb_0.npy",
        "metadata/metadata_0.parquet",
    }


def test_metadata_has_the_columns_of_our_own_files(dataset: Dataset, folder: Path) -> None:
    adopt(dataset, folder)
    found = pq.read_table(local(dataset, "metadata"))
    theirs = pq.read_table(folder / "metadata" / "metadata_0.parquet")
    assert found.column_names[:3] == ["image_path", "caption", "uid"]
    assert found.column_names[-1] == "clip_similarity"
    for name in set(theirs.column_names) & {"image_path", "caption", "url", "width"}:
        assert found.column(name).to_pylist() == theirs.column(name).to_pylist()
    images, texts = (np.load(folder / kind / f"{kind}_0.npy").astype(np.float32) for kind in KINDS)
    assert np.allclose(found.column("clip_similarity").to_numpy(), (images * texts).sum(axis=1), atol=1e-5)


def test_adopted_embeddings_equal_our_own(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset.root, tmp_path / "own")
    own = replace(dataset, root=str(tmp_path / "own"))
    build_embedding_file(own, Store.of(own), 0, random_model(), lambda line: None)
    adopt(dataset, folder)
    ours, theirs = (pq.read_table(local(each, "metadata")) for each in (own, dataset))
    assert ours.schema == theirs.schema
    same = [name for name in ours.column_names if name != "clip_similarity"]
    assert ours.select(same).equals(theirs.select(same))
    for kind in KINDS:
        vectors = [open_vectors(local(each, kind)).astype(np.float32) for each in (own, dataset)]
        assert (vectors[0] * vectors[1]).sum(axis=1).min() >= 0.999


@pytest.mark.slow
def test_files_of_every_second_tar_are_rearranged(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    whole = {key: row for row, key in enumerate(_keys(folder, 0))}
    two = replace(dataset, layout=replace(dataset.layout, embedding_files=2))
    theirs = clip_retrieval_embeddings(files=2)
    assert {key[:5] for key in _keys(theirs, 0)} == {"00000", "00002"}
    report = adopt(two, theirs)
    assert (report.refused, report.adopted, report.methods) == ([], ["0", "1"], {"rows rearranged": 2})
    assert [note.name for note in report.notes] == ["0", "1"]
    assert verify(two, CLIP_EMBEDDINGS, (0, 1), random_model) == {}
    for embedding in range(2):
        keys = pq.read_table(local(two, "metadata", embedding)).column("image_path").to_pylist()
        for kind in KINDS:
            expected = np.load(folder / kind / f"{kind}_0.npy")[[whole[key] for key in keys]].astype(np.float32)
            found = open_vectors(local(two, kind, embedding)).astype(np.float32)
            assert (found * expected).sum(axis=1).min() >= 0.999
    assert states(two) == {(State.COMPLETE, "")}


def test_index_and_search_work_over_adopted_embeddings(dataset: Dataset, folder: Path) -> None:
    adopt(dataset, folder)
    build_indices(dataset, Store.of(dataset), lambda line: None)
    vectors = open_vectors(local(dataset, "img_emb"))
    keys = _keys(folder, 0)
    with Searcher(dataset, model=random_model()) as searcher:
        (result,) = searcher.search(vector=vectors[11], k=1)
        assert (result.key, result.row) == (keys[11], 11)
        assert searcher.read_image(result)[:2] == b"\xff\xd8"


def test_run_skips_adopted_embeddings_and_another_model_makes_them_stale(dataset: Dataset, folder: Path) -> None:
    adopt(dataset, folder)
    assert not build_embedding_file(dataset, Store.of(dataset), 0, random_model(), lambda line: None).was_built
    other = replace(dataset, embeddings=replace(dataset.embeddings, batch_size=64))
    assert states(other) == {(State.COMPLETE, "")}
    assert states(replace(dataset, model=SAMPLE_MODEL)) == {(State.STALE, "settings changed")}


def test_changed_shard_makes_adopted_embeddings_stale(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    adopt(dataset, folder)
    other, _ = img2dataset_shards(columns="NSFW")
    store = Store.of(dataset)
    for number in range(SHARDS):
        store.delete(f"manifests/{IMAGE_SHARDS}/{number:05d}.json")
    assert adoption.adopt(dataset, IMAGE_SHARDS, other).refused == []
    assert states(dataset) == {(State.STALE, "inputs changed")}


@pytest.mark.slow
def test_embeddings_without_metadata_columns_are_adopted(dataset: Dataset) -> None:
    theirs = clip_retrieval_embeddings(metadata=False)
    assert pq.read_schema(theirs / "metadata" / "metadata_0.parquet").names[:2] == ["image_path", "caption"]
    assert adopt(dataset, theirs).refused == []
    assert "url" in pq.read_schema(local(dataset, "metadata")).names
    assert verify(dataset, CLIP_EMBEDDINGS, (0,), random_model) == {}


def test_files_of_some_shards_are_adopted_and_the_others_stay_missing(dataset: Dataset, tmp_path: Path) -> None:
    two = replace(dataset, layout=replace(dataset.layout, embedding_files=2))
    theirs = own_copy(clip_retrieval_embeddings(first=2), tmp_path / "theirs")
    (theirs / "img_emb" / "notes.txt").write_text("mine")
    report = adopt(two, theirs)
    assert (report.refused, report.adopted, report.methods) == ([], ["1"], {"hard link": 1})
    assert report.ignored == ["img_emb/notes.txt"]
    assert [state.state for state in DatasetStatus(two).states(CLIP_EMBEDDINGS)] == [State.MISSING, State.COMPLETE]


def test_norms_of_low_precision_are_corrected_in_a_copy(dataset: Dataset, folder: Path) -> None:
    path = folder / "img_emb" / "img_emb_0.npy"
    np.save(path, (np.load(path).astype(np.float32) * 0.995).astype(np.float16))
    report = adopt(dataset, folder)
    assert (report.refused, report.methods) == ([], {"rows rearranged": 1})
    norms = np.linalg.norm(open_vectors(local(dataset, "img_emb")).astype(np.float32), axis=1)
    assert np.abs(norms - 1).max() < 2e-3
    assert verify(dataset, CLIP_EMBEDDINGS, (0,), random_model) == {}


def test_vector_without_direction_is_dropped_and_counted(dataset: Dataset, folder: Path) -> None:
    path = folder / "text_emb" / "text_emb_0.npy"
    vectors = np.load(path)
    vectors[9] = np.nan
    np.save(path, vectors)
    report = adopt(dataset, folder)
    assert (report.rows_in, report.rows_out, report.reasons) == (IMAGES, IMAGES - 1, {"no_direction": 1})
    assert pq.read_metadata(local(dataset, "metadata")).num_rows == IMAGES - 1
    assert _keys(folder, 0)[9] not in pq.read_table(local(dataset, "metadata")).column("image_path").to_pylist()
    assert verify(dataset, CLIP_EMBEDDINGS, (0,), random_model) == {}


@pytest.mark.slow
def test_image_that_clip_retrieval_could_not_decode_is_counted(tmp_path: Path) -> None:
    shards = own_copy(img2dataset_shards()[0], tmp_path / "shards")
    change_tar(shards / "00001.tar", lambda members: [(members[0][0], members[0][1][:200]), *members[1:]])
    dataset = empty_dataset(tmp_path / "data")
    assert adoption.adopt(dataset, IMAGE_SHARDS, shards).refused == []
    report = adopt(dataset, run_clip_retrieval(shards))
    assert (report.refused, report.reasons, report.rows_out) == ([], {"undecodable": 1}, IMAGES - 1)
    assert report.methods == {"hard link": 1}
    assert verify(dataset, CLIP_EMBEDDINGS, (0,), random_model) == {}


def test_second_adoption_finds_the_partition_in_place(dataset: Dataset, folder: Path) -> None:
    adopt(dataset, folder)
    report = adopt(dataset, folder)
    assert (report.adopted, report.present, report.refused) == ([], ["0"], [])


def test_dry_run_changes_nothing(dataset: Dataset, folder: Path) -> None:
    before = sorted(Path(dataset.root).rglob("*"))
    report = adopt(dataset, folder, dry_run=True)
    assert (report.adopted, report.refused, report.rows_out) == (["0"], [], IMAGES)
    assert sorted(Path(dataset.root).rglob("*")) == before


def test_shards_must_be_in_the_dataset_first(folder: Path, tmp_path: Path) -> None:
    bare = empty_dataset(tmp_path / "bare")
    (refusal,) = adopt(bare, folder).refused
    assert refusal.name == "file 0"
    assert "image_shards of adopting is incomplete: 00000 (not committed)" in refusal.reason


def _keys(folder: Path, number: int) -> list[str]:
    return pq.read_table(folder / "metadata" / f"metadata_{number}.parquet").column("image_path").to_pylist()


@pytest.mark.parametrize("kind", KINDS)
def test_copies_share_no_file_with_the_source(kind: str, dataset: Dataset, folder: Path) -> None:
    assert adopt(dataset, folder, copy=True).methods == {"copy": 1}
    assert not local(dataset, kind).samefile(folder / kind / f"{kind}_0.npy")
    assert local(dataset, kind).read_bytes() == (folder / kind / f"{kind}_0.npy").read_bytes()
