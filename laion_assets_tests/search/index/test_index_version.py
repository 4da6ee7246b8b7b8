"""An open index: metadata in batches, vectors by id, NSFW tags, near-duplicates."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IntegrityError, QueryError
from laion_assets.search.index.index_version import IndexVersion
from laion_assets.search.index.metadata_rows import RESULT_COLUMNS
from laion_assets.search.results.duplicates import MIN_COSINE, find_connected, find_owners
from laion_assets.search.results.find import Query, find, nearest_shown
from laion_assets.search.results.safety import is_shown, read_tags
from laion_assets.stages.clip_embeddings.handle import ClipEmbeddings
from laion_assets.store.store import Store
from laion_assets_tests.stages.clip_embeddings.small_dataset import LAYOUT


def open_version(dataset: Dataset, **search) -> IndexVersion:
    return IndexVersion(replace(dataset, search=replace(dataset.search, **search)), Store.of(dataset))


def test_rows_are_those_that_are_read_one_by_one(built: Dataset) -> None:
    version = open_version(built)
    ids = [69, 0, 41, 0, 23, 22, 40, 7]
    rows = version.metadata.rows(ids)
    for row_id, row in zip(ids, rows, strict=True):
        fields = version.metadata.fields(row_id)
        assert row == {name: fields[name] for name in RESULT_COLUMNS}
    assert version.metadata.rows(ids) == rows
    assert (version.metadata.hits, version.metadata.misses) == (len(ids), len(ids))
    with pytest.raises(IntegrityError, match="the id 70"):
        version.metadata.rows([70])


@pytest.mark.parametrize("cached_rows", [0, 10, 70])
def test_no_more_rows_are_kept_than_the_setting_says(built: Dataset, cached_rows: int) -> None:
    version = open_version(built, cached_rows=cached_rows)
    version.prepare()
    assert len(version.metadata._cache) == (70 if cached_rows == 70 else 0)
    first = version.metadata.rows(range(70))
    assert [row["uid"] for row in version.metadata.rows(range(70))] == [row["uid"] for row in first]
    assert len(version.metadata._cache) == cached_rows


def test_rows_are_read_by_many_threads(built: Dataset) -> None:
    version = open_version(built, cached_rows=0)
    expected = [row["uid"] for row in version.metadata.rows(range(70))]
    wrong: list[Exception | int] = []

    def read(seed: int) -> None:
        for ids in np.random.default_rng(seed).integers(0, 70, (20, 12)).tolist():
            try:
                if [row["uid"] for row in version.metadata.rows(ids)] != [expected[each] for each in ids]:
                    wrong.append(seed)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("modality", ["image", "text"])
def test_vectors_are_those_of_the_embedding_files_and_else_of_the_index(built: Dataset, modality: str) -> None:
    version = open_version(built)
    ids = [69, 0, 41, 40, 5]
    exact = version.vectors(modality, ids)
    root = Store.of(built).local_root
    folder = {"image": "img_emb", "text": "text_emb"}[modality]
    stored = np.concatenate([np.load(root / ClipEmbeddings.path(LAYOUT, n, folder)) for n in (0, 1)])[ids]
    cosines = (exact * stored).sum(axis=1) / np.linalg.norm(stored.astype(np.float32), axis=1)
    assert cosines == pytest.approx(1, abs=1e-5)
    (root / "manifests" / "clip_embeddings" / "1.json").unlink()  # built again, or lost
    again = open_version(built)
    assert again._embeddings[modality].rows(ids) is None
    assert np.abs(again.vectors(modality, ids) - exact).max() < 2e-3
    with pytest.raises(QueryError, match="no row with the id 70"):
        version.vectors(modality, [70])


def test_tags_say_which_rows_are_shown_without_metadata(built: Dataset) -> None:
    version = open_version(built, show=("NSFW",))
    settings = replace(built.search, show=("NSFW",))
    query = version.vectors("image", [3])[0]
    before = nearest_shown(version, "image", query, 70)
    version.prepare()
    assert version.tags is not None
    read = version.metadata.hits + version.metadata.misses
    assert nearest_shown(version, "image", query, 70) == before
    assert version.metadata.hits + version.metadata.misses == read
    shown = [row_id for row_id, row in enumerate(version.metadata.rows(range(70))) if is_shown(row, settings)]
    assert version.tags.shown(np.arange(70)).nonzero()[0].tolist() == shown == sorted(before[0])
    assert version.tags.hidden_rows == 70 - len(shown)
    assert sum(version.tags.rows.values()) == 70


def directions(rows: int, groups: int) -> tuple[np.ndarray, list[int]]:
    """Vectors of norm 1 in groups that are close to each other and to no other group."""
    rng = np.random.default_rng(rows)
    group = rng.integers(0, groups, rows).tolist()
    vectors = np.eye(groups, dtype=np.float32)[group] + rng.normal(0, 0.002, (rows, groups)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), group


def test_metadata_of_hidden_rows_is_not_read(built: Dataset) -> None:
    version = open_version(built)
    version.tags = read_tags(version.metadata, built.search)
    query = Query(version.vectors("image", [0])[0], k=10, collapse=False)
    found = find(version, built.search, query)
    assert version.metadata.misses == 16, "the least number of rows of a step"
    assert found.hidden > 10
    version.tags = None
    again = find(version, built.search, query)
    assert [hit.id for hit in again.hits] == [hit.id for hit in found.hits]
    assert len(found.hits) == 10


@pytest.mark.parametrize(("rows", "groups"), [(0, 3), (1, 3), (40, 40), (700, 90)])
def test_near_duplicates_belong_to_the_first_of_them(rows: int, groups: int) -> None:
    vectors, group = directions(rows, groups)
    expected = [group.index(each) for each in group]
    assert find_owners(vectors, [None] * rows) == expected
    assert find_connected(vectors, MIN_COSINE) == sorted(set(expected))
    assert find_owners(np.eye(max(rows, 1), dtype=np.float32)[:rows], [str(each) for each in group]) == expected


def test_chain_of_close_vectors_is_one_component_but_not_one_duplicate() -> None:
    angles = np.arange(600) * 0.09  # neighbours have a cosine of 0.996
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert find_connected(vectors[:30], MIN_COSINE) == [0]
    owners = find_owners(vectors[:30], [None] * 30)
    assert owners == [position - position % 2 for position in range(30)]
