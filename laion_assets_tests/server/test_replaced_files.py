"""Shards and indices are replaced while they are served."""

import gc
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.stages.clip_embeddings.build import build_embedding_file
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.stages.knn_indices.build import build_indices
from laion_assets.stages.knn_indices.handle import KNN_INDICES
from laion_assets.store.store import Store
from laion_assets_tests.server.running import Client, running_service
from laion_assets_tests.stages.clip_embeddings.small_dataset import (
    LAYOUT,
    ROWS,
    commit_shard,
    make_jpeg,
    random_model,
    sample_members,
)


@pytest.fixture
def changing(built: Dataset) -> Iterator[tuple[Client, Dataset]]:
    """A service over an own copy of the small dataset; it looks for a new index ten times a second."""
    dataset = replace(built, search=replace(built.search, refresh_s=0.1))
    with running_service(dataset) as running:
        yield running, dataset


def index_again(dataset: Dataset) -> None:
    store = Store.of(dataset)
    for embedding in range(LAYOUT.embedding_files):
        build_embedding_file(dataset, store, embedding, random_model(), lambda line: None)
    build_indices(dataset, store, lambda line: None)


def wait_for_rows(client: Client, rows: int) -> None:
    deadline = time.monotonic() + 30
    while client.get("/api/datasets").json["datasets"][0]["images"] != rows:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_new_index_is_used_without_a_restart_and_the_old_one_is_closed(changing) -> None:
    client, dataset = changing
    first = client.search("dog", k=5).json
    old = weakref.ref(client.service.searches["small"].current.version)
    commit_shard(dataset, 3, ROWS[3] + 10)
    index_again(dataset)
    wait_for_rows(client, 80)
    second = client.search("dog", k=1_000, collapse=False).json
    assert second["index_version"] != first["index_version"]
    assert len(second["results"]) + second["hidden"] == 80
    gc.collect()
    assert old() is None
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if KNN_INDICES in line]
    assert not [line for line in mapped if line.endswith("(deleted)") and dataset.root in line]


def test_searches_during_the_replacement_do_not_fail(changing) -> None:
    client, dataset = changing
    commit_shard(dataset, 3, ROWS[3] + 1)
    store = Store.of(dataset)
    for embedding in range(LAYOUT.embedding_files):
        build_embedding_file(dataset, store, embedding, random_model(), lambda line: None)
    client.service.searches["small"].current.version.metadata.close()  # metadata files are opened again
    build_indices(dataset, store, lambda line: None)
    assert client.search("tree", k=70).status == 200
    wait_for_rows(client, 71)


def test_damaged_new_index_is_not_used(changing) -> None:
    client, dataset = changing
    search = client.service.searches["small"]
    before = client.search("dog", k=70).json
    (path,) = (Store.of(dataset).local_root / "manifests" / KNN_INDICES).glob("*.json")
    path.write_bytes(path.read_bytes().replace(b'"width": 128', b'"width": -128'))
    deadline = time.monotonic() + 30
    while not search.current.problem:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert client.search("dog", k=70).json["results"] == before["results"]


def test_image_of_a_rebuilt_shard_is_never_that_of_another_row(changing) -> None:
    client, dataset = changing
    results = client.search("dog", k=70, collapse=False).json["results"]
    shard_1 = [each for each in results if "photos-01.test" in each["url"]]
    assert client.get(shard_1[0]["image"]).status == 200

    def shift(members):
        """The samples of shard 1 under the keys of their neighbours, with other images."""
        return [part for row in range(ROWS[1]) for part in renamed(row)]

    def renamed(row: int):
        own = LAYOUT.sample_key(1, row)
        other = sample_members(1, (row + 1) % ROWS[1], make_jpeg(7_000 + row))
        return [(f"{own}.{name.partition('.')[2]}", content) for name, content in other]

    commit_shard(dataset, 1, ROWS[1], change=shift)
    for result in shard_1:
        answer = client.get(result["image"])
        assert (answer.status, answer.code) == (404, "image_missing")
    (Store.of(dataset).local_root / ImageShards.path(LAYOUT, 1, ".tar")).unlink()
    assert client.get(shard_1[0]["image"]).status == 404
    assert client.search("dog").status == 200


def test_unchanged_image_is_answered_with_304(changing) -> None:
    client, _ = changing
    path = client.search("dog", k=1).json["results"][0]["image"]
    first = client.get(path)
    assert "immutable" in first.headers["cache-control"]
    again = client.get(path, If_None_Match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")
