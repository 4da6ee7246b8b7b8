"""The search API returns the rows that exact search returns, without those that may not be shown."""

import base64
import json

import numpy as np
import pytest

from laion_assets.stages.clip_embeddings.handle import ClipEmbeddings
from laion_assets.store.store import Store
from laion_assets_tests.server.running import Client
from laion_assets_tests.stages.clip_embeddings.small_dataset import (
    LAYOUT,
    built_root,
    make_jpeg,
    random_model,
    sample_fields,
    small_dataset,
)


def image_vectors() -> np.ndarray:
    """The image vectors of the small dataset by id, from its npy files."""
    root = Store.of(small_dataset(built_root())).local_root
    files = [root / ClipEmbeddings.path(LAYOUT, number, "img_emb") for number in (0, 1)]
    return np.concatenate([np.load(path) for path in files]).astype(np.float32)


def shown_ids() -> list[int]:
    """The ids of the rows that are tagged UNLIKELY."""
    keys = [(0, row) for row in range(25) if row not in (4, 7)]
    keys += [(shard, row) for shard, rows in ((1, 17), (2, 0), (3, 30)) for row in range(rows)]
    return [number for number, (shard, row) in enumerate(keys) if sample_fields(shard, row)["NSFW"] == "UNLIKELY"]


def exact_order(vector: np.ndarray) -> list[int]:
    """The ids of the shown rows, nearest first."""
    similarities = image_vectors() @ vector
    return sorted(shown_ids(), key=lambda row: -similarities[row])


def test_text_returns_the_shown_rows_of_exact_search(client: Client) -> None:
    answer = client.search("a red tree", k=50, collapse=False).json
    assert [result["id"] for result in answer["results"]] == exact_order(random_model().encode_texts(["a red tree"])[0])
    assert answer["hidden"] == 70 - len(shown_ids())
    assert answer["next_offset"] is None


def test_result_has_the_fields_of_its_row(client: Client) -> None:
    result = client.search("a red tree", k=1).json["results"][0]
    shard, row = divmod(int(client.get(f"/api/results/small/{result['id']}").json["metadata"]["key"]), 10_000)
    fields = sample_fields(shard, row)
    assert (result["uid"], result["caption"], result["url"]) == (fields["uid"], fields["caption"], fields["url"])
    assert (result["width"], result["height"], result["nsfw"], result["licence"]) == (640, 480, "UNLIKELY", "?")
    assert result["domain"] == f"photos-{shard:02d}.test"
    assert client.get(result["image"]).body == make_jpeg(shard * 1000 + row)


def test_weighted_terms_are_the_normalised_sum_of_their_vectors(client: Client) -> None:
    row = shown_ids()[3]
    model = random_model()
    vector = model.encode_texts(["a red tree"])[0] - 0.5 * model.encode_texts(["dog"])[0] + 2 * image_vectors()[row]
    terms = ({"text": "a red tree"}, {"text": "dog", "weight": -0.5}, {"id": row, "weight": 2})
    answer = client.search(*terms, k=10, collapse=False).json
    assert [result["id"] for result in answer["results"]] == exact_order(vector / np.linalg.norm(vector))[:10]


def test_pages_join_to_the_whole_list(client: Client) -> None:
    whole = [result["id"] for result in client.search("dog", k=100).json["results"]]
    pages, offset = [], 0
    while offset is not None:
        answer = client.search("dog", k=7, offset=offset).json
        pages += [result["id"] for result in answer["results"]]
        offset = answer["next_offset"]
    assert pages == whole


def test_image_term_is_decoded_by_the_decoder_process(client: Client) -> None:
    image = base64.b64encode(make_jpeg(1_003)).decode()
    assert client.search({"image": image}, k=3).status == 200
    assert client.search({"image": base64.b64encode(b"<svg/>").decode()}).code == "invalid_image"


def test_datasets_are_described_with_their_limits(client: Client) -> None:
    (dataset,) = client.get("/api/datasets").json["datasets"]
    assert (dataset["name"], dataset["images"], dataset["shown_tags"]) == ("small", 70, ["UNLIKELY"])
    assert dataset["limits"]["max_k"] == 1_000
    assert "." not in json.dumps(dataset["nsfw_tags"])


@pytest.mark.parametrize(
    ("terms", "fields", "code"),
    [
        (["a"], {"k": -1}, "invalid_k"),
        (["a"], {"k": 1_000_000_000}, "invalid_k"),
        (["a"], {"k": "x"}, "invalid_k"),
        (["a"], {"k": True}, "invalid_k"),
        (["a"], {"offset": -5}, "invalid_offset"),
        (["a"], {"index": "sound"}, "invalid_index"),
        (["a"], {"filters": {"width": 5}}, "unknown_field"),
        (["a"], {"filters": {"min_width": "5"}}, "invalid_filters"),
        (["a"], {"collapse": 1}, "invalid_collapse"),
        (["a"], {"page": 1}, "unknown_field"),
        ([" "], {}, "empty_text"),
        (["a" * 20_000], {}, "text_too_long"),
        (["a"] * 9, {}, "too_many_terms"),
        ([], {}, "invalid_terms"),
        ([{"text": "a", "id": 1}], {}, "invalid_terms"),
        ([{"text": "a", "weight": "1"}], {}, "invalid_weight"),
        ([{"text": "a", "weight": 0}], {}, "invalid_weight"),
        (["a", {"text": "a", "weight": -1}], {}, "invalid_terms"),
        ([{"id": 1.5}], {}, "invalid_id"),
        ([{"id": 10**12}], {}, "not_found"),
        ([{"image": "!"}], {}, "invalid_image"),
        ([{"image_url": "http://example.org/a.jpg"}], {}, "image_by_url_off"),
        ([{"vector": [1.0] * 3}], {}, "invalid_vector"),
        ([{"vector": [0.0] * 128}], {}, "invalid_vector"),
    ],
)
def test_invalid_query_is_refused_with_a_code(client: Client, terms: list, fields: dict, code: str) -> None:
    answer = client.search(*terms, **fields)
    assert (answer.status, answer.code) == (404 if code == "not_found" else 400, code)
