"""A safety model hides rows from every reader, says its digest, and is an error where a client needs it in vain."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SettingError
from laion_assets.export.request import ExportRequest
from laion_assets.export.run import plan_export, write_export
from laion_assets.search.query import Searcher
from laion_assets.search.results.safety_model import SafetyModel
from laion_assets.server.service import Service
from laion_assets.stages.knn_indices.inputs import CLIP_EMBEDDINGS
from laion_assets.stages.search_report.answers import answer_query
from laion_assets.store.manifest import manifest_path
from laion_assets_tests.server.running import Client, running_service
from laion_assets_tests.server.test_clip_retrieval_api import clip_client, connect
from laion_assets_tests.server.test_search_api import image_vectors, shown_ids
from laion_assets_tests.stages.clip_embeddings.small_dataset import built_root, random_model, small_dataset


def _direction() -> np.ndarray:
    """A direction that half of the rows tagged UNLIKELY have a positive product with."""
    vectors = image_vectors()[shown_ids()]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    difference = vectors[0] - vectors[-1]
    return difference - difference.dot(vectors.mean(0)) / (vectors.mean(0) @ vectors.mean(0)) * vectors.mean(0)


def safe_ids() -> list[int]:
    """The ids of the rows tagged UNLIKELY that the model of `guarded` does not hide."""
    return [row for row in shown_ids() if image_vectors()[row] @ _direction() <= 0]


def _with_model(folder: Path, width: int | None = None, **settings: Any) -> Dataset:
    path = folder / "half.safetensors"
    save_file({"a.weight": 1e4 * _direction()[None, :width]}, path, metadata={"name": "half"})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    dataset = small_dataset(built_root())
    search = dataclasses.replace(dataset.search, safety_model=str(path), safety_model_sha256=digest, **settings)
    return dataclasses.replace(dataset, search=search)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A service with a safety model that hides about half of the rows."""
    with running_service(_with_model(tmp_path_factory.mktemp("model"))) as running:
        yield running


def test_unsafe_rows_are_hidden_from_every_reader(guarded: Client) -> None:
    safe = safe_ids()
    unsafe = [row for row in shown_ids() if row not in safe]
    assert len(safe) > 5
    assert len(unsafe) > 5
    answer = guarded.search("a red tree", k=50, collapse=False).json
    assert sorted(result["id"] for result in answer["results"]) == safe
    assert answer["hidden"] == 70 - len(safe)
    assert guarded.get(f"/api/results/small/{unsafe[0]}").status == 404
    assert guarded.search({"id": unsafe[0]}).status == 404
    uid = _uids()[unsafe[0]]
    assert guarded.get(f"/images/small/{unsafe[0]}/{uid}.jpg").status == 404
    assert guarded.get(f"/images/small/{safe[0]}/{_uids()[safe[0]]}.jpg").status == 200
    found = guarded.post("/metadata", {"ids": list(range(70)), "indice_name": "small"}).json
    assert [each["id"] for each in found] == safe
    client = connect(guarded, num_images=70, deduplicate=False)
    assert sorted(each["id"] for each in client.query(text="a red tree")) == safe
    client = connect(guarded, num_images=70, deduplicate=False, use_safety_model=False)
    assert sorted(each["id"] for each in client.query(text="a red tree")) == safe, "the server decides, not the client"
    listed = {"dataset": "small", "format": "json", "uids": [uid, _uids()[safe[0]]]}
    exported = guarded.post("/api/export", listed)
    assert [json.loads(line)["uid"] for line in exported.body.splitlines()] == [_uids()[safe[0]]]


def _uids() -> dict[int, str]:
    with Searcher(small_dataset(built_root())) as searcher:
        return {row: searcher.fields(row)["uid"] for row in shown_ids()}


def test_name_and_digest_are_in_the_answers(guarded: Client) -> None:
    expected = guarded.service.searches["small"].safety.describe()
    assert expected["name"] == "half"
    assert guarded.get("/healthz").json["safety_models"] == {"small": expected}
    assert guarded.get("/api/datasets").json["datasets"][0]["safety_model"] == expected
    assert guarded.search("dog", safety_model=True).json["safety_model"] == expected
    asked = {"text": "dog", "indice_name": "small", "use_safety_model": True}
    headers = guarded.post("/knn-service", asked).headers
    assert headers["x-safety-model"] == f"sha256:{expected['sha256']}"
    assert "x-ignored-fields" not in headers


def test_needed_model_that_is_missing_is_an_error(client: Client) -> None:
    answer = client.search("dog", safety_model=True)
    assert (answer.status, answer.code) == (400, "no_safety_model")
    for rows in ({"terms": [{"text": "dog"}]}, {"uids": ["0" * 32]}):
        answer = client.post("/api/export", {"dataset": "small", "format": "csv", "safety_model": True, **rows})
        assert (answer.status, answer.code) == (400, "no_safety_model")
    assert client.search("dog", safety_model="yes").code == "invalid_safety_model"
    assert client.search("dog", safety_model=False).json["safety_model"] is None
    assert client.get("/healthz").json == {"status": "ok", "safety_models": {"small": None}}


def test_unmodified_client_works_and_is_told_which_of_its_defaults_have_no_effect(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = []
    module = clip_client()
    post = module.requests.post
    monkeypatch.setattr(module.requests, "post", lambda *a, **k: answers.append(post(*a, **k)) or answers[-1])
    found = connect(client).query(text="dog")
    assert found[0]["id"] in shown_ids()
    assert answers[0].headers["X-Ignored-Fields"] == "use_safety_model, use_violence_detector, aesthetic_score"
    body = {"text": "dog", "indice_name": "small"}
    assert "x-ignored-fields" not in client.post("/knn-service", body).headers


def test_operator_can_refuse_what_is_missing(built: Dataset) -> None:
    search = dataclasses.replace(built.search, refuse_missing_models=True)
    with running_service(dataclasses.replace(built, search=search)) as strict:
        answer = connect(strict).query(text="dog")
        assert answer["error"]["code"] == "no_safety_model"
        assert "Set use_safety_model and use_violence_detector to false" in answer["error"]["message"]
        assert len(connect(strict, use_safety_model=False, use_violence_detector=False).query(text="dog")) > 0


def test_model_for_other_vectors_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="is for vectors of width 3, but those of small have"):
        Service([_with_model(tmp_path, width=3)])


def test_published_results_are_safe_by_tag_and_by_score(tmp_path: Path) -> None:
    dataset = _with_model(tmp_path)
    with Searcher(dataset, model=random_model(), safety=SafetyModel.of(dataset)) as searcher:
        answer = answer_query(searcher, "a red tree", 100)
    assert {result.row for result in answer.results} == set(safe_ids())
    assert answer.hidden == 70 - len(safe_ids())


def test_export_leaves_out_unsafe_rows_and_names_the_model(tmp_path: Path) -> None:
    dataset = _with_model(tmp_path)
    planned = plan_export(dataset, ExportRequest("json"))
    report = write_export(planned, str(tmp_path / "out"))
    assert report.counts.reasons["hidden"] == 72 - len(safe_ids()), "by tag or by score, the two failed rows by tag"
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows" / "00000.jsonl").read_text().splitlines()]
    assert {row["uid"] for row in rows} == {_uids()[row] for row in safe_ids()}
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())["recipe"]
    assert recipe["safety_model"]["sha256"] == dataset.search.safety_model_sha256
    everything = plan_export(dataset, ExportRequest("json", include_hidden=True))
    assert "safety_model" not in everything.recipe
    assert len(everything.rows) == 70


def test_row_without_an_embedding_cannot_be_scored_and_is_left_out(built: Dataset, tmp_path: Path) -> None:
    dataset = dataclasses.replace(_with_model(tmp_path), root=built.root)
    (Path(built.root) / "small" / manifest_path(CLIP_EMBEDDINGS, built.layout.embedding_key(1))).unlink()
    counts = plan_export(dataset, ExportRequest("json")).counts
    in_second_file = [row for row in shown_ids() if row >= 40]
    assert counts.reasons["not_scored"] == len(in_second_file)
