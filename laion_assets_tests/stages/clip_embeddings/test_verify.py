"""The verification detects each violated invariant and names the row, file or sample."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IncompleteError, ModelError
from laion_assets.stages.clip_embeddings.handle import ClipEmbeddings
from laion_assets.stages.clip_embeddings.verify import EmbeddingVerification, verify_embedding_file
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.store.manifest import read_manifest
from laion_assets.store.store import Store
from laion_assets_tests.stages.clip_embeddings.small_dataset import LAYOUT, commit_shard, make_jpeg, random_model
from laion_assets_tests.stages.clip_embeddings.test_build import build, local


def verify(dataset: Dataset, **options) -> EmbeddingVerification:
    return verify_embedding_file(Store.of(dataset), LAYOUT, 0, random_model(), **options)


def test_intact_file_has_no_problems(built: Dataset) -> None:
    found = verify(built)
    assert found.ok, found.problems
    assert (found.image_rows, found.text_rows, found.metadata_rows, found.successes) == (40, 40, 40, 40)
    assert found.rows_reencoded == 8
    assert found.lowest_cosine > 0.999
    assert verify(built, rows=0).rows_reencoded == 40


def test_undecodable_images_are_counted(bare: Dataset) -> None:
    commit_shard(bare, 0, 12, jpgs={2: b"broken", 5: make_jpeg(5)[:700]})
    commit_shard(bare, 1, 0)
    build(bare)
    found = verify(bare, rows=0)
    assert found.ok, found.problems
    assert (found.image_rows, found.successes, found.dropped) == (10, 12, 2)


def swap(array: np.ndarray) -> np.ndarray:
    array[[11, 30]] = array[[30, 11]]
    return array


def rewrite_npy(kind: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Dataset], None]:
    def broken(dataset: Dataset) -> None:
        path = local(dataset, kind)
        np.save(path, change(np.load(path)))

    return broken


def rewrite_metadata(change) -> Callable[[Dataset], None]:
    def broken(dataset: Dataset) -> None:
        path: Path = local(dataset, "metadata")
        table = change(pq.read_table(path))
        path.unlink()
        pq.write_table(table, path)

    return broken


def drop_shard(dataset: Dataset) -> None:
    Store.of(dataset).delete(ImageShards.path(LAYOUT, 1, ".tar"))


def cut_tar(dataset: Dataset) -> None:
    tar = Store.of(dataset).local_root / ImageShards.path(LAYOUT, 0, ".tar")
    tar.write_bytes(tar.read_bytes()[:-30_000])


BROKEN = {
    "two vectors swapped": (
        rewrite_npy("img_emb", swap),
        [r"row 11 \(sample 000000013\).*image", r"row 30 \(.*image"],
    ),
    "two captions' vectors swapped": (rewrite_npy("text_emb", swap), [r"row 11 \(sample 000000013\).*caption"]),
    "a vector dropped": (
        rewrite_npy("img_emb", lambda a: np.delete(a, 5, 0)),
        ["img_emb 39, text_emb 40, metadata 40"],
    ),
    "a duplicated vector": (rewrite_npy("text_emb", lambda a: np.insert(a, 5, a[5], 0)), ["img_emb 40, text_emb 41"]),
    "another width": (rewrite_npy("img_emb", lambda a: a[:, :64].copy()), [r"img_emb_0\.npy.*width 64"]),
    "another dtype": (rewrite_npy("img_emb", lambda a: a.astype(np.float32)), [r"img_emb_0\.npy.*float32"]),
    "a vector of norm 2": (
        rewrite_npy("img_emb", lambda a: a * np.where(np.arange(40) == 6, 2, 1)[:, None].astype("f2")),
        ["row 6.*norm 2"],
    ),
    "a NaN": (
        rewrite_npy("text_emb", lambda a: np.where(np.arange(40)[:, None] == 6, np.float16("nan"), a)),
        ["text_emb.*row 6.*norm nan"],
    ),
    "a metadata row dropped": (rewrite_metadata(lambda t: t.slice(1)), ["metadata 39", "sample 000000000 is missing"]),
    "a duplicated metadata row": (
        rewrite_metadata(lambda t: t.take([0, *range(40)])),
        ["metadata 41", "000000000 is duplicated"],
    ),
    "metadata out of order": (rewrite_metadata(lambda t: t.take([1, 0, *range(2, 40)])), ["row 1.*not in the order"]),
    "a shard removed": (drop_shard, [r"00001\.tar: missing"]),
    "a truncated tar": (cut_tar, [r"00000\.tar.*member 0000000\d\d is missing"]),
}


@pytest.mark.parametrize("invariant", BROKEN)
def test_violated_invariant_is_reported(built: Dataset, invariant: str) -> None:
    breaks, messages = BROKEN[invariant]
    breaks(built)
    problems = "\n".join(verify(built).problems)
    for expected in messages:
        assert re.search(expected, problems), problems


def test_swapped_vectors_are_reported_if_the_manifest_agrees(built: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest is that of a run that swapped the vectors itself."""
    model, encode = random_model(), random_model().pixel_vectors
    monkeypatch.setattr(model, "pixel_vectors", lambda pixels: encode(pixels).flip(0))
    Store.of(built).delete("manifests/clip_embeddings/0.json")
    build(built)
    monkeypatch.undo()
    assert read_manifest(Store.of(built), "clip_embeddings", "0") is not None
    assert any("is not the vector of its image" in problem for problem in verify(built).problems)


def test_missing_file_and_another_model_are_rejected(built: Dataset) -> None:
    model = random_model()
    identity, model.identity = model.identity, "another"
    try:
        with pytest.raises(ModelError, match="another"):
            verify(built)
    finally:
        model.identity = identity
    Store.of(built).delete("manifests/clip_embeddings/0.json")
    with pytest.raises(IncompleteError, match="clip_embeddings 0"):
        verify(built)


def test_without_a_model_the_counts_are_still_checked(built: Dataset) -> None:
    rewrite_npy("img_emb", lambda a: np.delete(a, 5, 0))(built)
    found = verify_embedding_file(Store.of(built), LAYOUT, 0)
    assert found.rows_reencoded == 0
    assert not found.ok
    assert ClipEmbeddings.path(LAYOUT, 0, "img_emb") in found.problems[0]
