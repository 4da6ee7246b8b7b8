"""Search returns the nearest samples with their metadata, and rejects invalid queries."""

from dataclasses import replace

import numpy as np
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IncompleteError, IntegrityError, ModelError, QueryError
from laion_assets.search.query import Searcher
from laion_assets.stages.clip_embeddings.handle import ClipEmbeddings
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.stages.knn_indices.handle import KNN_INDICES
from laion_assets.store.store import Store
from laion_assets_tests.stages.clip_embeddings.small_dataset import LAYOUT, make_jpeg, random_model, sample_fields


def searcher(dataset: Dataset) -> Searcher:
    return Searcher(dataset, model=random_model())


def test_image_query_returns_the_same_image_first(built: Dataset) -> None:
    with searcher(built) as opened:
        first = opened.search(image=make_jpeg(1_004), k=3)[0]
    fields = sample_fields(1, 4)
    assert (first.uid, first.key, first.caption, first.url) == tuple(
        fields[n] for n in ("uid", "key", "caption", "url")
    )
    assert (first.shard, first.row, first.nsfw) == (1, 27, fields["NSFW"])
    assert first.similarity == pytest.approx(1, abs=2e-3)


def test_caption_query_returns_the_same_caption_first(built: Dataset) -> None:
    with searcher(built) as opened:
        found = opened.search("tree 3 12", k=5, modality="text")
    assert found[0].caption == "tree 3 12"
    assert [result.similarity for result in found] == sorted((result.similarity for result in found), reverse=True)


def test_text_query_returns_the_rows_of_exact_search(built: Dataset) -> None:
    files = [Store.of(built).local_root / ClipEmbeddings.path(LAYOUT, i, "img_emb") for i in (0, 1)]
    images = np.concatenate([np.load(path) for path in files]).astype(np.float32)
    expected = np.argsort(-(images @ random_model().encode_texts(["a red tree"])[0]), kind="stable")[:10]
    with searcher(built) as opened:
        assert [result.row for result in opened.search("a red tree")] == list(expected)


def test_vector_query_is_normalised(built: Dataset) -> None:
    query = random_model().encode_texts(["a red tree"])[0]
    with searcher(built) as opened:
        by_text, by_vector = opened.search("a red tree"), opened.search(vector=list(map(float, query * 7)))
        assert [result.row for result in by_text] == [result.row for result in by_vector]


def test_k_larger_than_the_index_returns_all_rows(built: Dataset) -> None:
    with searcher(built) as opened:
        found = opened.search("red", k=1_000)
        assert sorted(result.row for result in found) == list(range(70))
        for result in found:
            shard, row = divmod(int(result.key), 10_000)
            assert (result.shard, result.url) == (shard, sample_fields(shard, row)["url"])


def test_read_image_returns_the_stored_bytes_of_a_result(built: Dataset) -> None:
    with searcher(built) as opened:
        result = opened.search(image=make_jpeg(3_022), k=1)[0]
        assert opened.read_image(result) == make_jpeg(3_022)
        (Store.of(built).local_root / ImageShards.path(LAYOUT, 3, ".tar")).unlink()
        with pytest.raises(IntegrityError, match=r"00003\.tar is missing"):
            opened.read_image(result)


BAD = {
    "no query": ({}, "exactly one"),
    "two queries": ({"text": "a", "vector": [1.0] * 128}, "exactly one"),
    "no text": ({"text": "  "}, "The text is empty"),
    "too long a text": ({"text": "a" * 20_000}, "The text has 20,000"),
    "k of 0": ({"text": "a", "k": 0}, "Invalid k 0"),
    "k of -1": ({"text": "a", "k": -1}, "Invalid k -1"),
    "too large a k": ({"text": "a", "k": 1_001}, "Invalid k 1001"),
    "a k that is not a number": ({"text": "a", "k": "ten"}, "Invalid k 'ten'"),
    "a k that is a boolean": ({"text": "a", "k": True}, "Invalid k True"),
    "another modality": ({"text": "a", "modality": "sound"}, "Unknown modality 'sound'"),
    "a vector of another width": ({"vector": [1.0] * 3}, "shape .3,.*128"),
    "a zero vector": ({"vector": [0.0] * 128}, "no direction"),
    "a vector of NaN": ({"vector": [float("nan")] * 128}, "no direction"),
    "a vector of words": ({"vector": ["a"] * 128}, "128 numbers"),
    "bytes that are not an image": ({"image": b"hello"}, "The image cannot be used"),
    "a truncated image": ({"image": make_jpeg(1)[:500]}, "The image cannot be used"),
    "an SVG": ({"image": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}, "The image cannot be used"),
    "a body too large": ({"image": bytes(20_000_001)}, "20,000,001 bytes"),
}


@pytest.mark.parametrize("kind", BAD)
def test_invalid_query_is_rejected_naming_the_argument(built: Dataset, kind: str) -> None:
    query, message = BAD[kind]
    with searcher(built) as opened, pytest.raises(QueryError, match=message):
        opened.search(**query)


def test_image_with_too_many_pixels_is_rejected_from_its_header(built: Dataset) -> None:
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    with searcher(built) as opened, pytest.raises(QueryError):
        opened.search(image=b"\x89PNG\r\n\x1a\n" + chunk)


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c[:-40] + bytes([c[-40] ^ 1]) + c[-39:], lambda c: b""])
def test_damaged_index_is_rejected_before_faiss_opens_it(built: Dataset, damage) -> None:
    path = Store.of(built).local_root / KNN_INDICES / "image.index"
    path.write_bytes(damage(path.read_bytes()))
    with searcher(built) as opened:
        with pytest.raises(IntegrityError, match=r"image\.index is damaged"):
            opened.search("red")
        assert opened.search("red", modality="text")


def test_index_of_another_model_is_rejected(built: Dataset) -> None:
    with pytest.raises(ModelError, match="ViT-B/32"):
        Searcher(replace(built, model="ViT-B/32"))


def test_model_is_loaded_at_the_first_text_query(built: Dataset) -> None:
    with Searcher(built) as opened:
        assert "model" not in opened.__dict__
        assert opened.search("tree 3 12", k=1, modality="text")[0].caption == "tree 3 12"


def test_missing_indices_are_rejected(bare: Dataset) -> None:
    with pytest.raises(IncompleteError, match="knn_indices"):
        Searcher(bare)
