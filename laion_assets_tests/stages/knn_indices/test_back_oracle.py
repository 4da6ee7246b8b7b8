"""`clip-retrieval back` itself serves our index folder, offline, with the same results as ours."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.search.query import Searcher
from laion_assets.stages.knn_indices.handle import KNN_INDICES
from laion_assets.store.store import Store
from laion_assets_tests.stages.clip_embeddings.small_dataset import model_name, random_model

BACK = """
import sys
import flask
from laion_assets_tests.stages.clip_embeddings.small_dataset import register
register()
from clip_retrieval.clip_back import clip_back
paths, port, model = sys.argv[1:]
run = flask.Flask.run
flask.Flask.run = lambda app, host, **options: run(app, host="127.0.0.1", **options)
columns = ["url", "image_path", "caption", "NSFW", "uid"]
clip_back(indices_paths=paths, port=int(port), clip_model=model, use_jit=False, enable_mclip_option=False,
          provide_aesthetic_embeddings=False, enable_faiss_memory_mapping=True, columns_to_return=columns)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=30) as answer:
        return json.load(answer)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_clip_retrieval_returns_our_results(
    built: Dataset, tmp_path_factory: pytest.TempPathFactory, modality: str
) -> None:
    folder = Store.of(built).local_root / KNN_INDICES
    paths = tmp_path_factory.mktemp("back") / "indices_paths.json"
    paths.write_text(json.dumps({"small": str(folder)}))
    port, log = free_port(), Path(paths.parent / "log")
    with log.open("wb") as output:
        back = subprocess.Popen(
            [sys.executable, "-c", BACK, str(paths), str(port), model_name()],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
    try:
        base = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while True:
            try:
                assert ask(f"{base}/indices-list") == ["small"]
                break
            except (urllib.error.URLError, ConnectionError):
                assert back.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.3)
        query = {"modality": modality, "num_images": 5, "num_result_ids": 5, "indice_name": "small"}
        theirs = ask(f"{base}/knn-service", {**query, "text": "blue 1 11"})
        with Searcher(built, model=random_model()) as searcher:
            ours = searcher.search("blue 1 11", k=5, modality=modality)
        assert [found["id"] for found in theirs] == [found.row for found in ours]
        for their, our in zip(theirs, ours, strict=True):
            assert (their["uid"], their["image_path"], their["caption"]) == (our.uid, our.key, our.caption)
            assert (their["url"], their["NSFW"]) == (our.url, our.nsfw)
            assert their["similarity"] == pytest.approx(our.similarity, abs=1e-4)
        told = ask(f"{base}/metadata", {"ids": [69], "indice_name": "small"})
        with Searcher(built, model=random_model()) as searcher:
            assert told[0]["metadata"]["uid"] == searcher.fields(69)["uid"]
    finally:
        back.send_signal(signal.SIGTERM)
        back.wait(20)
