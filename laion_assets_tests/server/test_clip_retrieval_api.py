"""clip-retrieval's unmodified client works with the service, and gets the answers of its own server."""

import functools
import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from laion_assets_tests.server.running import Client
from laion_assets_tests.server.test_search_api import exact_order, image_vectors, shown_ids
from laion_assets_tests.stages.clip_embeddings.small_dataset import make_jpeg, random_model


@functools.cache
def clip_client() -> ModuleType:
    """clip-retrieval's module, without the package around it, which imports torchvision."""
    found = importlib.util.find_spec("clip_retrieval")
    spec = importlib.util.spec_from_file_location("clip_client", Path(found.origin).with_name("clip_client.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def connect(client: Client, **options):
    return clip_client().ClipClient(f"http://127.0.0.1:{client.port}/knn-service", "small", **options)


def test_client_finds_by_text_without_rows_that_may_not_be_shown(client: Client) -> None:
    found = connect(client, deduplicate=False, num_images=70).query(text="a red tree")
    assert [each["id"] for each in found] == exact_order(random_model().encode_texts(["a red tree"])[0])
    assert set(found[0]) == {"id", "similarity", "url", "caption", "image_path", "NSFW", "uid", "stored_image"}


def test_client_finds_by_image_file_and_by_embedding(client: Client, tmp_path: Path) -> None:
    row = shown_ids()[5]
    by_vector = connect(client, deduplicate=False).query(embedding_input=(image_vectors()[row] * 3).tolist())
    assert by_vector[0]["id"] == row
    assert by_vector[0]["similarity"] == pytest.approx(3, abs=0.01)  # clip-retrieval does not normalise
    path = tmp_path / "query.jpg"
    path.write_bytes(make_jpeg(1_003))
    assert len(connect(client).query(image=str(path))) > 0


def test_client_gets_the_error_of_a_query_by_url(client: Client) -> None:
    assert connect(client).query(image="http://127.0.0.1/x.jpg")["error"]["code"] == "image_by_url_off"


def test_metadata_is_returned_for_ids_that_may_be_shown(client: Client) -> None:
    found = client.post("/metadata", {"ids": list(range(10)), "indice_name": "small"}).json
    assert [each["id"] for each in found] == [row for row in shown_ids() if row < 10]
    assert all(each["metadata"]["NSFW"] == "UNLIKELY" for each in found)


def test_rows_after_num_images_have_id_and_similarity_only(client: Client) -> None:
    body = {"text": "dog", "modality": "text", "num_images": 3, "num_result_ids": 20, "indice_name": "small"}
    found = client.post("/knn-service", body).json
    assert [len(each) > 2 for each in found] == [True] * 3 + [False] * (len(found) - 3)
    assert {each["id"] for each in found} <= set(shown_ids())


def test_deduplication_is_that_of_clip_retrieval(client: Client) -> None:
    whole = connect(client, deduplicate=False, num_images=70).query(text="a red tree")
    kept = connect(client, deduplicate=True, num_images=70).query(text="a red tree")
    vectors = image_vectors()[[each["id"] for each in whole]]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    close = vectors @ vectors.T > 0.94
    component = list(range(len(whole)))
    for _ in whole:  # connected components, the slow way
        component = [min(component[i] for i in np.flatnonzero(row)) for row in close]
    expected = [each["id"] for position, each in enumerate(whole) if component[position] == position]
    assert [each["id"] for each in kept] == expected
    assert len(kept) < len(whole)


@pytest.mark.parametrize("count", [-1, 1_000_000_000, "x"])
def test_impossible_counts_are_refused(client: Client, count) -> None:
    body = {"text": "dog", "modality": "image", "num_images": count, "indice_name": "small"}
    assert client.post("/knn-service", body).status == 400
    assert client.post("/metadata", {"ids": [count], "indice_name": "small"}).status == 400


def test_indices_and_metrics_are_listed(client: Client) -> None:
    assert client.get("/indices-list").json == ["small"]
    client.search("dog")
    assert "full_knn_request_time_count" in client.get("/metrics").body.decode()
    assert "knn_index_time" in client.get("/metrics-summary").body.decode()
