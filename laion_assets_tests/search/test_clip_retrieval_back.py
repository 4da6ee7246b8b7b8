"""The launcher of `clip-retrieval back` serves the sample's model offline, with the torch of this machine."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.search.query import Searcher
from laion_assets_tests.stages.clip_embeddings.small_dataset import LAYOUT, make_jpeg

COMMAND = [sys.executable, "-m", "laion_assets.cli.clip_retrieval_back"]
SERVE = """
import sys
from dataclasses import replace
from laion_assets_tests.stages.clip_embeddings.small_dataset import small_dataset
from laion_assets.dataset.dataset import SAMPLE_MODEL
from laion_assets.search.clip_retrieval_back import serve
root, port = sys.argv[1:]
serve(replace(small_dataset(root), model=SAMPLE_MODEL), "127.0.0.1", int(port))
"""


def ask(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=30) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def back(sample_model_dataset: Dataset) -> Iterator[str]:
    """The URL of the running service."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = Path(sample_model_dataset.root) / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, sample_model_dataset.root, str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                assert ask(f"http://127.0.0.1:{port}/indices-list") == ["small"]
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.3)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_text_query_returns_the_results_of_our_search(back: str, sample_model_dataset: Dataset, modality: str) -> None:
    query = {"modality": modality, "num_images": 5, "num_result_ids": 5, "indice_name": "small", "deduplicate": False}
    theirs = ask(f"{back}/knn-service", {**query, "text": "a red circle"})
    ours = Searcher(sample_model_dataset).search("a red circle", k=5, modality=modality)
    assert [found["uid"] for found in theirs] == [found.uid for found in ours]


def test_image_query_is_answered_and_local_image_url_is_rejected(back: str) -> None:
    query = {"modality": "image", "num_images": 3, "num_result_ids": 3, "indice_name": "small", "deduplicate": False}
    found = ask(f"{back}/knn-service", {**query, "image": base64.b64encode(make_jpeg(1_002)).decode()})
    assert found[0]["similarity"] > 0.9
    assert found[0]["image_path"] == LAYOUT.sample_key(1, 2)
    for wrong in ({"image": base64.b64encode(b"%!PS-Adobe").decode()}, {"image_url": f"{back}/indices-list"}):
        with pytest.raises(urllib.error.HTTPError) as raised:
            ask(f"{back}/knn-service", {**query, **wrong})
        assert raised.value.code == 500


def test_missing_indices_are_named_without_a_traceback(tmp_path: Path) -> None:
    environment = {**os.environ, "LAION_ASSETS_ROOT": str(tmp_path)}
    ended = subprocess.run([*COMMAND, "--dataset", "sample"], env=environment, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "knn_indices" in ended.stderr
    assert "Traceback" not in ended.stderr
    ended = subprocess.run([*COMMAND, "--dataset", "nothing"], env=environment, capture_output=True, text=True)
    assert ended.returncode == 2
