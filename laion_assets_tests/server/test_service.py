"""The service as a whole: several datasets, texts encoded together, the command, its start and its end."""

import concurrent.futures
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IncompleteError, SettingError
from laion_assets.server.run import PlainFormatter, bind, read_token
from laion_assets.server.service import Service, shared_settings
from laion_assets_tests.server.running import Client, running_service
from laion_assets_tests.stages.clip_embeddings.small_dataset import built_root, small_dataset

SERVE = """
import sys
from laion_assets.dataset.built_in import BUILT_IN
from laion_assets.cli import main
from laion_assets_tests.stages.clip_embeddings.small_dataset import small_dataset
BUILT_IN["small"] = small_dataset(sys.argv[1])
sys.argv = ["laion-assets", "serve", "--dataset", "small", "--port", "0"]
main()
"""


def test_datasets_are_served_side_by_side_with_one_model(tmp_path: Path) -> None:
    first = small_dataset(built_root())
    with pytest.raises(IncompleteError, match="knn_indices"):
        Service([first, replace(first, name="other")])
    shutil.copytree(built_root() / "small", tmp_path / "other")
    second = replace(first, name="other", root=str(tmp_path), search=replace(first.search, show=("UNSURE",)))
    with running_service(first, second) as client:
        assert len(client.service.encoders) == 1
        assert client.get("/indices-list").json == ["small", "other"]
        small = client.search("dog", k=1_000, collapse=False).json
        other = client.search("dog", dataset="other", k=1_000, collapse=False).json
        assert {result["nsfw"] for result in small["results"]} == {"UNLIKELY"}
        assert {result["nsfw"] for result in other["results"]} == {"UNLIKELY", "UNSURE"}
        assert other["hidden"] < small["hidden"]
        shown_only_there = next(result for result in other["results"] if result["nsfw"] == "UNSURE")
        assert client.get(shown_only_there["image"]).status == 200
        assert client.get(shown_only_there["image"].replace("/other/", "/small/")).status == 404


def test_settings_of_the_service_must_agree() -> None:
    first = small_dataset(built_root())
    other = replace(first, name="other", search=replace(first.search, queue=7))
    with pytest.raises(SettingError, match=r"search\.queue differs between small and other"):
        shared_settings([first, other])
    with pytest.raises(SettingError, match="only once"):
        shared_settings([first, first])


def test_texts_that_arrive_together_are_encoded_together(client: Client) -> None:
    encoder = client.service.searches["small"].encoder
    before = encoder.batches
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda number: client.search(f"tree number {number}", k=1), range(64)))
    assert {answer.status for answer in answers} == {200}
    assert 0 < encoder.batches - before < 64
    hits = encoder.hits
    client.search("tree number 5", k=1)
    assert encoder.hits == hits + 1


def test_filters_and_duplicates_are_counted(client: Client) -> None:
    whole = client.search("dog", k=1_000, collapse=False).json
    rows = len(whole["results"])
    wide = client.search("dog", k=1_000, collapse=False, filters={"min_width": 641}).json
    assert (wide["results"], wide["filtered"]) == ([], rows)
    some = client.search("dog", k=1_000, collapse=False, filters={"domain": "PHOTOS-01.test", "words": "RED"}).json
    assert some["results"]
    assert all("photos-01.test" in each["url"] and "red" in each["caption"] for each in some["results"])
    assert not client.search("dog", filters={"domain": "hotos-01.test"}).json["results"]
    near = client.search("dog", k=1_000, collapse=False, filters={"min_similarity": 0.0}).json["results"]
    assert [each["id"] for each in near] == [each["id"] for each in whole["results"] if each["similarity"] >= 0]
    joined = client.search("dog", k=1_000).json
    assert joined["collapsed"] + len(joined["results"]) == rows
    assert sum(each["duplicates"] for each in joined["results"]) == joined["collapsed"]


def test_query_texts_are_logged_only_if_asked_for(built: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with running_service(built) as client:
        client.search("a secret of mine")
        client.post("/knn-service", {"text": "a secret of mine", "modality": "x", "indice_name": "small"})
    assert "secret" not in caplog.text
    with running_service(replace(built, search=replace(built.search, log_queries=True))) as client:
        client.search("not\x1b[2J a secret")
    assert "not\x1b[2J a secret" in caplog.text
    assert "\x1b" not in PlainFormatter().format(caplog.records[-1])


def test_command_is_ready_answers_and_ends_cleanly() -> None:
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(built_root())],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "LAION_ASSETS_ROOT": str(built_root())},
    )
    try:
        lines = [process.stderr.readline() for _ in range(2)]
        found = re.search(r"at (http://127\.0\.0\.1:\d+)", "".join(lines))
        assert found, lines
        address = found[1]
        with urllib.request.urlopen(f"{address}/healthz", timeout=60) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(30) == 0, rest
        assert rest.splitlines() == ["stopped"]
    finally:
        process.kill()
        process.wait()
    assert time.monotonic() - started < 60


def test_port_in_use_and_bad_tokens_are_named(tmp_path: Path) -> None:
    with bind("127.0.0.1", 0) as taken, pytest.raises(SettingError, match=r"Choose another --port"):
        bind("127.0.0.1", taken.getsockname()[1])
    path = tmp_path / "token"
    with pytest.raises(SettingError, match="cannot be read"):
        read_token(str(path))
    path.write_text("short")
    with pytest.raises(SettingError, match="at least 16"):
        read_token(str(path))
    path.write_text("0123456789abcdef\n")
    assert read_token(str(path)) == "0123456789abcdef"


def test_pages_and_description_of_the_api_are_complete(client: Client) -> None:
    api = client.get("/openapi.json").json
    for path, operations in api["paths"].items():
        for method in operations:
            # 404 with the code of a missing row or dataset, not of a missing path
            answer = client.send(method.upper(), re.sub(r"\{id\}", "0", path).replace("{dataset}", "small"))
            assert answer.status != 405, path
            assert answer.status != 404 or "id" in path, path
    assert "/api/search" in client.get("/docs").body.decode()
