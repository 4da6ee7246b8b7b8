"""A search finds what was indexed, names what it found, and refuses what it cannot answer."""

from dataclasses import replace

import numpy as np
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IncompleteError, IntegrityError, ModelError, QueryError
from laion_assets.search.query import Searcher
from laion_assets.stages.handles import KNN_INDICES, ClipEmbeddings, ImageShards
from laion_assets.store.store import Store
from laion_assets_tests.stages.clip_embeddings.small_dataset import LAYOUT, picture, random_model, sample_fields


def searcher(dataset: Dataset) -> Searcher:
    return Searcher(dataset, model=random_model())


def test_a_picture_finds_itself(built: Dataset) -> None:
    with searcher(built) as opened:
        first = opened.search(image=picture(1_004), k=3)[0]
    fields = sample_fields(1, 4)
    assert (first.uid, first.key, first.caption, first.url) == tuple(
        fields[n] for n in ("uid", "key", "caption", "url")
    )
    assert (first.shard, first.row, first.nsfw) == (1, 27, fields["NSFW"])
    assert first.similarity == pytest.approx(1, abs=2e-3)


def test_a_caption_finds_itself_among_captions(built: Dataset) -> None:
    with searcher(built) as opened:
        found = opened.search("tree 3 12", k=5, modality="text")
    assert found[0].caption == "tree 3 12"
    assert [result.similarity for result in found] == sorted((result.similarity for result in found), reverse=True)


def test_text_finds_pictures_as_exact_search_does(built: Dataset) -> None:
    files = [Store.of(built).local_root / ClipEmbeddings.path(LAYOUT, i, "img_emb") for i in (0, 1)]
    images = np.concatenate([np.load(path) for path in files]).astype(np.float32)
    expected = np.argsort(-(images @ random_model().encode_texts(["a red tree"])[0]), kind="stable")[:10]
    with searcher(built) as opened:
        assert [result.row for result in opened.search("a red tree")] == list(expected)


def test_a_vector_need_not_be_normalised(built: Dataset) -> None:
    query = random_model().encode_texts(["a red tree"])[0]
    with searcher(built) as opened:
        by_text, by_vector = opened.search("a red tree"), opened.search(vector=list(map(float, query * 7)))
        assert [result.row for result in by_text] == [result.row for result in by_vector]


def test_more_than_there_is_gives_all(built: Dataset) -> None:
    with searcher(built) as opened:
        found = opened.search("red", k=1_000)
        assert sorted(result.row for result in found) == list(range(70))
        for result in found:
            shard, row = divmod(int(result.key), 10_000)
            assert (result.shard, result.url) == (shard, sample_fields(shard, row)["url"])


def test_the_stored_picture_of_a_result(built: Dataset) -> None:
    with searcher(built) as opened:
        result = opened.search(image=picture(3_022), k=1)[0]
        assert opened.picture(result) == picture(3_022)
        (Store.of(built).local_root / ImageShards.path(LAYOUT, 3, ".tar")).unlink()
        with pytest.raises(IntegrityError, match=r"00003\.tar.*000030022\.jpg"):
            opened.picture(result)


BAD = {
    "no query": ({}, "exactly one"),
    "two queries": ({"text": "a", "vector": [1.0] * 128}, "exactly one"),
    "no text": ({"text": "  "}, "text is empty"),
    "too long a text": ({"text": "a" * 20_000}, "text has 20000"),
    "k of 0": ({"text": "a", "k": 0}, "k is 0"),
    "k of -1": ({"text": "a", "k": -1}, "k is -1"),
    "too large a k": ({"text": "a", "k": 1_001}, "k is 1001"),
    "k that is no number": ({"text": "a", "k": "ten"}, "k is 'ten'"),
    "k that is a truth": ({"text": "a", "k": True}, "k is True"),
    "another modality": ({"text": "a", "modality": "sound"}, "modality is 'sound'"),
    "a vector of another width": ({"vector": [1.0] * 3}, "shape .3,.*128"),
    "a zero vector": ({"vector": [0.0] * 128}, "no direction"),
    "a vector of NaN": ({"vector": [float("nan")] * 128}, "no direction"),
    "a vector of words": ({"vector": ["a"] * 128}, "128 numbers"),
    "no picture": ({"image": b"hello"}, "no picture"),
    "a picture cut short": ({"image": picture(1)[:500]}, "no picture"),
    "an SVG": ({"image": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}, "no picture"),
    "a body too large": ({"image": bytes(20_000_001)}, "20000001 bytes"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_answered_is_refused_by_argument(built: Dataset, kind: str) -> None:
    query, said = BAD[kind]
    with searcher(built) as opened, pytest.raises(QueryError, match=said):
        opened.search(**query)


def test_a_picture_of_too_many_pixels_is_refused_from_its_header(built: Dataset) -> None:
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    with searcher(built) as opened, pytest.raises(QueryError):
        opened.search(image=b"\x89PNG\r\n\x1a\n" + chunk)


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c[:-40] + bytes([c[-40] ^ 1]) + c[-39:], lambda c: b""])
def test_a_damaged_index_is_refused_before_it_is_opened(built: Dataset, damage) -> None:
    path = Store.of(built).local_root / KNN_INDICES / "image.index"
    path.write_bytes(damage(path.read_bytes()))
    with searcher(built) as opened:
        with pytest.raises(IntegrityError, match=r"image\.index is not opened"):
            opened.search("red")
        assert opened.search("red", modality="text")


def test_another_model_is_refused(built: Dataset) -> None:
    with pytest.raises(ModelError, match="ViT-B/32"):
        Searcher(replace(built, model="ViT-B/32"))


def test_the_datasets_own_model_is_loaded_when_it_is_needed(built: Dataset) -> None:
    with Searcher(built) as opened:
        assert "model" not in opened.__dict__
        assert opened.search("tree 3 12", k=1, modality="text")[0].caption == "tree 3 12"


def test_unpublished_indices_are_refused(bare: Dataset) -> None:
    with pytest.raises(IncompleteError, match="knn_indices"):
        Searcher(bare)
