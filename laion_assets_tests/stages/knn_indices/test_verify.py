"""The verification of the indices detects inconsistent files and names them."""

import re
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IncompleteError
from laion_assets.stages.clip_embeddings.handle import ClipEmbeddings
from laion_assets.stages.knn_indices.handle import KNN_INDICES
from laion_assets.stages.knn_indices.verify import IndexVerification, verify_indices
from laion_assets.store.manifest import Manifest, build_file_entry, manifest_path, read_manifest
from laion_assets.store.store import Store
from laion_assets_tests.stages.clip_embeddings.small_dataset import LAYOUT


def verify(dataset: Dataset) -> IndexVerification:
    return verify_indices(Store.of(dataset), LAYOUT)


def rebuild(dataset: Dataset, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Commit another image index with a matching manifest, as a faulty run would."""
    store = Store.of(dataset)
    path = f"{KNN_INDICES}/image.index"
    vectors = [np.load(store.local_root / ClipEmbeddings.path(LAYOUT, i, "img_emb")) for i in (0, 1)]
    index = faiss.index_factory(128, "IVF1,Flat", faiss.METRIC_INNER_PRODUCT)
    changed = change(np.concatenate(vectors).astype(np.float32))
    index.train(changed)
    index.add(changed)
    local: Path = store.local_root / path
    faiss.write_index(index, str(local))
    manifest = read_manifest(store, KNN_INDICES, "all")
    files = tuple(build_file_entry(local, path, False) if entry.path == path else entry for entry in manifest.files)
    fields = {**manifest.__dict__, "files": files}
    store.write_bytes(manifest_path(KNN_INDICES, "all"), Manifest(**fields).to_json())


def test_intact_indices_have_no_problems(built: Dataset) -> None:
    found = verify(built)
    assert found.ok, found.problems
    assert found.npy_rows == found.ntotal == {"image": 70, "text": 70}
    assert found.metadata_rows == 70
    assert found.found == {"image": 1.0, "text": 1.0}


BROKEN = {
    "a dropped vector": (lambda v: v[:-1], "image.index has 69 vectors, but the img_emb files have 70"),
    "a duplicated vector": (lambda v: np.concatenate([v, v[:1]]), "image.index has 71 vectors"),
    "ids off by one": (lambda v: np.roll(v, 1, axis=0), "image.index: 70 of 70 sampled vectors are not found"),
    "two ids exchanged": (lambda v: v[[1, 0, *range(2, 70)]], "image.index: 2 of 70 .*first: 0"),
}


@pytest.mark.parametrize("invariant", BROKEN)
def test_violated_invariant_is_reported(built: Dataset, invariant: str) -> None:
    change, message = BROKEN[invariant]
    rebuild(built, change)
    problems = verify(built).problems
    assert any(re.search(message, problem) for problem in problems), problems


def test_damaged_index_is_reported(built: Dataset) -> None:
    path = Store.of(built).local_root / KNN_INDICES / "text.index"
    path.write_bytes(path.read_bytes()[:-1])
    problems = verify(built).problems
    assert any("text.index is damaged" in problem for problem in problems), problems


def test_missing_indices_are_rejected(bare: Dataset) -> None:
    with pytest.raises(IncompleteError, match="knn_indices"):
        verify(bare)
