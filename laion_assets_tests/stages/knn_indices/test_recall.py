"""Recall is measured against exact search, and a bad index gets a bad number."""

from pathlib import Path

import faiss
import numpy as np
import pytest

from laion_assets.stages.knn_indices.recall import exact_kth, measure_recall, sample_ids
from laion_assets.stages.knn_indices.vectors import Vectors


def unit(rows: int, seed: int, width: int = 16) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def vectors(*arrays: np.ndarray) -> Vectors:
    return Vectors(arrays, [Path(f"{i}.npy") for i in range(len(arrays))])


def flat(*arrays: np.ndarray) -> faiss.Index:
    index = faiss.IndexFlatIP(16)
    for array in arrays:
        index.add(array.astype(np.float32))
    return index


def test_the_exact_kth_is_that_of_all_files(monkeypatch: pytest.MonkeyPatch) -> None:
    import laion_assets.stages.knn_indices.recall as module

    monkeypatch.setattr(module, "BLOCK_ROWS", 7)
    arrays = [unit(30, 1), unit(0, 2), unit(5, 3), unit(41, 4)]
    queries = unit(6, 9).astype(np.float32)
    everything = np.concatenate(arrays).astype(np.float32)
    expected = np.sort(queries @ everything.T, axis=1)[:, -10]
    np.testing.assert_allclose(exact_kth(queries, vectors(*arrays)), expected, atol=1e-5)


def test_an_exact_index_has_recall_1_and_a_poor_one_less() -> None:
    own, other = [unit(300, 1), unit(200, 2)], unit(500, 3)
    names = ("image", "text")
    assert measure_recall(flat(*own), vectors(*own), vectors(other), 50, names) == {"image": 1.0, "text": 1.0}
    poor = faiss.index_factory(16, "IVF64,Flat", faiss.METRIC_INNER_PRODUCT)
    poor.train(np.concatenate(own).astype(np.float32))
    poor.add(np.concatenate(own).astype(np.float32))
    measured = measure_recall(poor, vectors(*own), vectors(other), 50, names)
    assert 0 < measured["text"] < 0.5
    shifted = flat(own[1], own[0])
    assert measure_recall(shifted, vectors(*own), vectors(other), 50, names)["image"] < 0.2


def test_equal_pictures_are_interchangeable() -> None:
    twins = np.repeat(unit(5, 1), 8, axis=0)
    assert measure_recall(flat(twins), vectors(twins), vectors(twins), 40, ("image", "text"))["image"] == 1.0


def test_fewer_vectors_than_ten_can_all_be_found() -> None:
    few = unit(3, 1)
    assert measure_recall(flat(few), vectors(few), vectors(few), 50, ("image", "text"))["image"] == 1.0


def test_samples_are_spread_and_distinct() -> None:
    assert list(sample_ids(5, 100)) == [0, 1, 2, 3, 4]
    assert list(sample_ids(1_000, 4)) == [0, 250, 500, 750]
    assert len(set(sample_ids(407_000_000, 500))) == 500


def test_rows_are_found_across_files() -> None:
    arrays = [unit(3, 1), unit(0, 2), unit(4, 3)]
    ids = np.array([6, 0, 3, 2, 3])
    np.testing.assert_array_equal(vectors(*arrays).rows(ids), np.concatenate(arrays)[ids].astype(np.float32))
