"""POST /api/export: downloads of what may be shown, with the bytes of the shards."""

import csv
import io
import json
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.store.store import Store
from laion_assets_tests.server.running import Answer, Client
from laion_assets_tests.stages.clip_embeddings.small_dataset import LAYOUT, built_root, sample_fields, small_dataset


def _download(client: Client, file_format: str, **fields: object) -> Answer:
    return client.post("/api/export", {"dataset": "small", "format": file_format, **fields})


def _uid(shard: int, row: int) -> str:
    return sample_fields(shard, row)["uid"]


def _members(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def test_results_of_a_search_in_their_order_in_every_list_format(client: Client) -> None:
    terms = [{"text": "red 0 0"}]
    searched = client.search("red 0 0", k=7, collapse=False).json["results"]
    uids = [result["uid"] for result in searched]
    lists = {}
    for file_format in ("json", "csv", "parquet"):
        answer = _download(client, file_format, terms=terms, k=7, collapse=False)
        assert answer.status == 200, answer.body
        assert answer.headers["x-export-rows"] == "7"
        suffix = "jsonl" if file_format == "json" else file_format
        assert answer.headers["content-disposition"] == f'attachment; filename="small-export.{suffix}"'
        lists[file_format] = answer.body
    rows = [json.loads(line) for line in lists["json"].splitlines()]
    assert [row["uid"] for row in rows] == uids
    assert [row["search_similarity"] for row in rows] == pytest.approx([r["similarity"] for r in searched], abs=1e-5)
    assert [row["uid"] for row in csv.DictReader(io.StringIO(lists["csv"].decode()))] == uids
    assert pq.read_table(io.BytesIO(lists["parquet"]))["uid"].to_pylist() == uids


def test_the_tar_has_the_samples_of_the_shards(client: Client) -> None:
    dataset = small_dataset(built_root())
    uids = [_uid(3, 6), _uid(0, 0), _uid(1, 9)]
    answer = _download(client, "webdataset", uids=uids)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/x-tar"
    expected = {}
    for shard, row in ((3, 6), (0, 0), (1, 9)):
        source = Path(Store.of(dataset).address(ImageShards.path(LAYOUT, shard, ".tar"))).read_bytes()
        key = LAYOUT.sample_key(shard, row)
        expected |= {name: content for name, content in _members(source).items() if name.startswith(key)}
    assert _members(answer.body) == expected
    assert len(expected) == 9


def test_uids_as_datacomps_array(client: Client) -> None:
    answer = _download(client, "npy", uids=[_uid(3, 6), _uid(0, 0)])
    array = np.load(io.BytesIO(answer.body))
    assert [f"{high:016x}{low:016x}" for high, low in array.tolist()] == sorted([_uid(3, 6), _uid(0, 0)])


def test_hidden_rows_are_never_exported_and_look_like_unknown_ones(client: Client) -> None:
    hidden, unknown = _uid(0, 1), "0" * 32
    answers = [_download(client, "webdataset", uids=[uid]) for uid in (hidden, unknown)]
    assert (answers[0].status, answers[0].json) == (answers[1].status, answers[1].json)
    assert answers[0].code == "no_rows"
    both = _download(client, "json", uids=[hidden, _uid(0, 0), unknown], include_hidden=True)
    assert both.code == "unknown_field"
    mixed = _download(client, "json", uids=[hidden, _uid(0, 0), unknown])
    assert [json.loads(line)["uid"] for line in mixed.body.splitlines()] == [_uid(0, 0)]
    everything = _download(client, "json", terms=[{"text": "red"}], collapse=False)
    assert {json.loads(line)["NSFW"] for line in everything.body.splitlines()} == {"UNLIKELY"}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"format": "xml", "uids": ["0" * 32]}, "invalid_format"),
        ({"format": None, "uids": ["0" * 32]}, "invalid_format"),
        ({"format": ["csv"], "uids": ["0" * 32]}, "invalid_format"),
        ({"format": "csv", "uids": []}, "invalid_uids"),
        ({"format": "csv", "uids": "0" * 32}, "invalid_uids"),
        ({"format": "csv", "uids": ["../../etc/passwd"]}, "invalid_uids"),
        ({"format": "csv", "uids": ["A" * 32]}, "invalid_uids"),
        ({"format": "csv", "uids": [1]}, "invalid_uids"),
        ({"format": "csv", "uids": ["0" * 32] * 1_001}, "invalid_uids"),
        ({"format": "csv", "uids": ["0" * 32], "terms": [{"text": "a"}]}, "unknown_field"),
        ({"format": "csv", "uids": ["0" * 32], "where": "true"}, "unknown_field"),
        ({"format": "csv", "terms": [{"text": "a"}], "k": 1_001}, "invalid_k"),
        ({"format": "csv", "terms": [{"text": "a"}], "k": -1}, "invalid_k"),
        ({"format": "csv"}, "invalid_terms"),
    ],
)
def test_invalid_requests_are_named_errors(client: Client, fields: dict[str, object], code: str) -> None:
    answer = client.post("/api/export", {"dataset": "small", **fields})
    assert (answer.status, answer.code) == (400, code)


@pytest.mark.parametrize("file_format", ["webdataset", "parquet", "csv", "json", "npy"])
def test_the_recipe_digest_stands_for_the_bytes(client: Client, file_format: str) -> None:
    search = {"terms": [{"text": "red 0 0"}], "k": 7, "collapse": False}
    first, again = (_download(client, file_format, **search) for _ in range(2))
    assert len(first.headers["x-recipe-digest"]) == 64
    assert first.headers["x-recipe-digest"] == again.headers["x-recipe-digest"]
    assert first.body == again.body
    others = [
        _download(client, file_format, **{**search, "k": 6}),
        _download(client, file_format, **{**search, "terms": [{"text": "blue 1 1"}]}),
        _download(client, file_format, uids=[_uid(0, 0)]),
        _download(client, file_format, uids=[_uid(0, 3)]),
        _download(client, "csv" if file_format == "json" else "json", **search),
    ]
    digests = {other.headers["x-recipe-digest"] for other in others}
    assert len(digests) == 5
    assert first.headers["x-recipe-digest"] not in digests


def test_temporary_files_are_deleted(client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert _download(client, "webdataset", uids=[_uid(0, 0)]).status == 200
    assert _download(client, "webdataset", uids=["0" * 32]).status == 404
    assert list(tmp_path.iterdir()) == []
