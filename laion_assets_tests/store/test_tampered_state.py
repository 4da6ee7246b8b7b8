"""Tampered state in the store: each change is refused with its file name, and no file outside the store changes."""

import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import EmbeddingError, IncompleteError, IntegrityError, StoreError
from laion_assets.search.query import Searcher
from laion_assets.stages.clip_embeddings.build import build_embedding_file
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.knn_indices.build import build_indices
from laion_assets.stages.knn_indices.handle import KNN_INDICES
from laion_assets.stages.knn_indices.verify import verify_indices
from laion_assets.stages.published_parquet.build import observe_published, read_list
from laion_assets.stages.published_parquet.handle import PUBLISHED_PARQUET
from laion_assets.stages.raw_csv.build import PARTIAL_FOLDER, fetch_raw_csv
from laion_assets.stages.raw_csv.handle import RAW_CSV
from laion_assets.stages.registry import stage_names
from laion_assets.stages.statistics.build import build_statistics, read_summaries
from laion_assets.stages.statistics.handle import DATASET_STATISTICS
from laion_assets.stages.status import DatasetStatus
from laion_assets.store.manifest import Counts, manifest_path, read_manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction, recover
from laion_assets_tests.stages.clip_embeddings.small_dataset import LAYOUT, ROWS, commit_shard, random_model

KEY = "00001"
OUTSIDE = "../canary/precious.txt"
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(autouse=True)
def canary(tmp_path: Path) -> Iterator[Path]:
    """A folder beside the one of the dataset. No test may change it."""
    folder = tmp_path / "canary"
    folder.mkdir()
    (folder / "precious.txt").write_text("precious", encoding="utf-8")
    yield folder
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("precious.txt", b"precious")]


def root(dataset: Dataset) -> Path:
    found = Store.of(dataset).local_root
    assert found is not None
    return found


def place(dataset: Dataset, asset: str = IMAGE_SHARDS, key: str = KEY) -> Path:
    return root(dataset) / manifest_path(asset, key)


def edit(path: Path, change: Change) -> None:
    fields = json.loads(path.read_bytes())
    change(fields)
    path.write_text(json.dumps(fields), encoding="utf-8")


def put(*keys: str | int, value: object) -> Change:
    def change(fields: dict[str, Any]) -> None:
        inner: Any = fields
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value

    return change


def rebuild(dataset: Dataset) -> None:
    """Rebuild the shard as a run does."""
    recover(Store.of(dataset), IMAGE_SHARDS, KEY)
    commit_shard(dataset, 1, ROWS[1] + 1)


def encode(dataset: Dataset) -> None:
    build_embedding_file(dataset, Store.of(dataset), 0, random_model(), lambda line: None)


def index(dataset: Dataset) -> None:
    build_indices(dataset, Store.of(dataset), lambda line: None)


def search(dataset: Dataset) -> None:
    with Searcher(dataset, model=random_model()) as opened:
        opened.search("red", k=70)


def states(dataset: Dataset) -> dict[str, list[str]]:
    """The states that `laion-assets status` prints."""
    freshness = DatasetStatus(dataset)
    return {asset: [state.state for state in freshness.states(asset)] for asset in stage_names(dataset)}


SHARD_MANIFESTS: dict[str, tuple[Change, str]] = {
    "size is text": (put("files", 0, "size", value="12"), "the size of"),
    "size is NaN": (put("files", 0, "size", value=float("nan")), "NaN"),
    "size is infinite": (put("files", 0, "size", value=float("inf")), "Infinity"),
    "size is negative": (put("files", 0, "size", value=-1), "the size of"),
    "size is huge": (put("files", 0, "size", value=10**40), "the size of"),
    "size is true": (put("files", 0, "size", value=True), "the size of"),
    "path is a number": (put("files", 0, "path", value=5), "not a path in image_shards"),
    "path is null": (put("files", 0, "path", value=None), "not a path in image_shards"),
    "path is a list": (put("files", 0, "path", value=["a"]), "not a path in image_shards"),
    "path is empty": (put("files", 0, "path", value=""), "not a path inside"),
    "path has NUL": (put("files", 0, "path", value="image_shards/a\0b"), "not a path inside"),
    "path has a newline": (put("files", 0, "path", value="image_shards/a\nb"), "not a path inside"),
    "path has a backslash": (put("files", 0, "path", value="image_shards\\..\\a"), "not a path inside"),
    "path is not UTF-8": (put("files", 0, "path", value="image_shards/\ud800"), "surrogates"),
    "path of 5,000 bytes": (put("files", 0, "path", value="image_shards/" + "a" * 5_000), "5013 bytes"),
    "name of 300 bytes": (put("files", 0, "path", value="image_shards/" + "ä" * 150), "313 bytes"),
    "path leads outside": (put("files", 0, "path", value=OUTSIDE), "not a path inside"),
    "path leads outside later": (put("files", 0, "path", value=f"image_shards/../{OUTSIDE}"), "not a path inside"),
    "path has a dot": (put("files", 0, "path", value="image_shards/./a"), "not a path inside"),
    "path ends with a slash": (put("files", 0, "path", value="image_shards/a/"), "not a path inside"),
    "path is absolute": (put("files", 0, "path", value="/etc/passwd"), "not a path inside"),
    "path of another asset": (put("files", 0, "path", value="raw_csv/a.csv"), "not a path in image_shards"),
    "path of a manifest": (put("files", 0, "path", value="manifests/raw_csv/all.json"), "not a path in image_shards"),
    "a duplicate file": (lambda d: d["files"].append(d["files"][0]), "duplicate file"),
    "files is an object": (put("files", value={}), "files are not a list"),
    "an entry is a list": (put("files", 0, value=[1]), "fields are wrong"),
    "an entry has another field": (put("files", 0, "mode", value="0777"), "mode"),
    "an entry lacks its sha256": (lambda d: d["files"][0].pop("sha256"), "sha256"),
    "sha256 is short": (put("files", 0, "sha256", value="00"), "the sha256 of"),
    "sha256 is not hexadecimal": (put("files", 0, "sha256", value="x" * 64), "hexadecimal"),
    "repeatable is text": (put("files", 0, "repeatable", value="yes"), "repeatable"),
    "rows_out is text": (put("counts", "rows_out", value="5"), "a count of rows is '5'"),
    "rows_in is null": (put("counts", "rows_in", value=None), "a count of rows is 'None'"),
    "rows_in is negative": (put("counts", value={"rows_in": -1, "rows_out": -1, "reasons": {}}), "a count of rows"),
    "rows do not add up": (put("counts", "rows_in", value=10**6), "1000000 rows in are not"),
    "reasons is a list": (put("counts", "reasons", value=[1]), "reasons are not an object"),
    "reasons have texts": (put("counts", "reasons", value={"a": "b"}), "a count of rows is 'b'"),
    "counts is a list": (put("counts", value=[]), "fields are wrong"),
    "details is a list": (put("details", value=[]), "outputs or details"),
    "details is null": (put("details", value=None), "outputs or details"),
    "details are nested 100 deep": (put("details", "x", value=json.loads("[" * 100 + "]" * 100)), "too deeply"),
    "details hold 1e999": (put("details", "x", value=float("inf")), "Infinity"),
    "outputs is null": (put("outputs", value=None), "outputs or details"),
    "outputs have numbers": (put("outputs", value={"00001": 5}), "digest of an output"),
    "committed_at is 5": (put("committed_at", value=5), "is not text"),
    "committed_at is yesterday": (put("committed_at", value="yesterday"), "isoformat"),
    "committed_at has no zone": (put("committed_at", value="0001-01-01T00:00:00"), "no time zone"),
    "seconds is text": (put("seconds", value="x"), "its seconds"),
    "seconds are negative": (put("seconds", value=-1), "its seconds"),
    "settings is null": (put("settings", value=None), "is not text"),
    "inputs is a list": (put("inputs", value=[1]), "is not text"),
    "asset is a path": (put("asset", value="../canary"), "not a path inside"),
    "key is of another": (put("key", value="00002"), "misplaced"),
    "format 2": (put("format", value=2), "its format is not 1"),
    "no format": (lambda d: d.pop("format"), "its format is not 1"),
    "another field": (put("run", value="x"), "'run'"),
    "no key": (lambda d: d.pop("key"), "key"),
}


@pytest.mark.parametrize("label", SHARD_MANIFESTS)
def test_tampered_manifest_is_reported_as_damaged_and_replaced_by_a_new_run(built: Dataset, label: str) -> None:
    change, message = SHARD_MANIFESTS[label]
    edit(place(built), change)
    state = DatasetStatus(built).state(IMAGE_SHARDS, 1)
    assert state.state == "damaged"
    assert message in state.reason
    assert f"{IMAGE_SHARDS}/{KEY}.json" in state.reason
    states(built)
    with pytest.raises(IncompleteError, match=KEY):
        encode(built)
    rebuild(built)
    assert DatasetStatus(built).state(IMAGE_SHARDS, 1).state == "complete"


CONTENTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "nested 100,000 deep": (lambda p: p.write_bytes(b"[" * 100_000), "too deeply"),
    "objects nested 100,000 deep": (lambda p: p.write_bytes(b'{"a":' * 100_000), "too deeply"),
    "not JSON": (lambda p: p.write_bytes(b"\xff\xfe\x00garbage"), "damaged"),
    "empty": (lambda p: p.write_bytes(b""), "damaged"),
    "a list": (lambda p: p.write_bytes(b"[]"), "not a JSON object"),
    "a number of 5,000 digits": (lambda p: p.write_bytes(b'{"format":' + b"9" * 5_000 + b"}"), "damaged"),
    "a duplicate key": (
        lambda p: p.write_bytes(p.read_bytes().replace(b"{", b'{"key": "00001", ', 1)),
        "duplicate key",
    ),
    "a float that is too large": (lambda p: edit_text(p, '"seconds": ', '"seconds": 1e999, "x": '), "damaged"),
}


def edit_text(path: Path, before: str, after: str) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace(before, after, 1), encoding="utf-8")


@pytest.mark.parametrize("label", CONTENTS)
def test_malformed_manifest_is_reported_as_damaged_and_replaced_by_a_new_run(built: Dataset, label: str) -> None:
    change, message = CONTENTS[label]
    change(place(built))
    state = DatasetStatus(built).state(IMAGE_SHARDS, 1)
    assert (state.state, message in state.reason) == ("damaged", True)
    rebuild(built)
    assert DatasetStatus(built).state(IMAGE_SHARDS, 1).state == "complete"


def make_sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 30)


def make_socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder": (Path.mkdir, "is a folder"),
    "a symbolic link": (lambda path: path.symlink_to("/etc/passwd"), "is a symbolic link"),
    "a link to nowhere": (lambda path: path.symlink_to("/nowhere/at/all"), "is a symbolic link"),
    "a named pipe": (os.mkfifo, "is a named pipe"),
    "a socket": (make_socket, "is a socket"),
    "a file of 1 GB": (make_sparse, "has 1,073,741,824 bytes"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_manifest_that_is_not_a_file_is_refused_without_blocking(built: Dataset, kind: str) -> None:
    make, message = KINDS[kind]
    place(built).unlink()
    make(place(built))
    started = time.monotonic()
    state = DatasetStatus(built).state(IMAGE_SHARDS, 1)
    assert (state.state, message in state.reason) == ("damaged", True)
    states(built)
    for use in (encode, rebuild):
        with pytest.raises(IntegrityError if use is rebuild else IncompleteError, match=message):
            use(built)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["staging/image_shards/00001/intent.json", "leases/image_shards/00001/000009"])
def test_intent_or_lease_that_is_not_a_file_is_refused_without_blocking(built: Dataset, kind: str, where: str) -> None:
    make, message = KINDS[kind]
    path = root(built) / where
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)
    started = time.monotonic()
    with pytest.raises(StoreError, match=message):
        rebuild(built)
    assert DatasetStatus(built).state(IMAGE_SHARDS, 1).state == "complete"
    assert time.monotonic() - started < 5


def intent(dataset: Dataset, transaction: object, change: Change = lambda fields: None, **more: object) -> Path:
    manifest = json.loads(place(dataset).read_bytes())
    change(manifest)
    folder = root(dataset) / f"staging/{IMAGE_SHARDS}/{KEY}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "intent.json"
    path.write_text(json.dumps({"transaction": transaction, "manifest": manifest, **more}), encoding="utf-8")
    return path


def plant(dataset: Dataset) -> None:
    """An intent that moves a staged file out of the store."""
    entry = {"path": "../canary/planted.sh", "size": 4, "sha256": "0" * 64, "repeatable": True}
    path = intent(dataset, "a1", put("files", value=[entry]))
    (path.parent / "a1").mkdir()
    name = hashlib.sha256(b"../canary/planted.sh").hexdigest()[:24] + "-planted.sh"
    (path.parent / "a1" / name).write_bytes(b"evil")


INTENTS: dict[str, tuple[Callable[[Dataset], object], str]] = {
    "transaction outside": (lambda d: intent(d, "../../../../canary"), "not a path inside"),
    "transaction empty": (lambda d: intent(d, ""), "not a path inside"),
    "transaction ..": (lambda d: intent(d, ".."), "not a path inside"),
    "transaction of two parts": (lambda d: intent(d, "a/b"), "transaction is not a folder name"),
    "transaction a number": (lambda d: intent(d, 5), "transaction is not a folder name"),
    "transaction the intent": (lambda d: intent(d, "intent.json"), "transaction is not a folder name"),
    "writes outside": (plant, "not a path inside"),
    "of another partition": (lambda d: intent(d, "a1", put("key", value="00002")), "it belongs to image_shards 00002"),
    "of another asset": (
        lambda d: intent(d, "a1", lambda m: m.update(asset=RAW_CSV, files=[])),
        "it belongs to raw_csv",
    ),
    "a manifest of wrong types": (lambda d: intent(d, "a1", put("settings", value=None)), "settings"),
    "another field": (lambda d: intent(d, "a1", more=1), "its fields are not"),
    "supersedes outside": (lambda d: intent(d, "a1", superseded=[OUTSIDE]), "not a path inside"),
    "supersedes another asset's": (lambda d: intent(d, "a1", superseded=["raw_csv/a"]), "supersedes"),
    "supersedes its own": (lambda d: intent(d, "a1", superseded=[f"image_shards/{KEY}.tar"]), "supersedes"),
    "supersedes a number": (lambda d: intent(d, "a1", superseded=[5]), "supersedes"),
    "a list": (lambda d: intent(d, "a1").write_bytes(b"[]"), "not a JSON object"),
    "without transaction": (
        lambda d: intent(d, "a1").write_bytes(b'{"manifest":{}}'),
        "transaction is not a folder name",
    ),
    "nested": (lambda d: intent(d, "a1").write_bytes(b"[" * 100_000), "too deeply"),
}


@pytest.mark.parametrize("label", INTENTS)
def test_tampered_intent_is_not_carried_out(built: Dataset, label: str) -> None:
    tamper, message = INTENTS[label]
    before = read_manifest(Store.of(built), IMAGE_SHARDS, KEY)
    tamper(built)
    with pytest.raises(StoreError, match=message) as raised:
        rebuild(built)
    assert "not an intent that this program wrote" in str(raised.value)
    assert "Remove " in str(raised.value)
    assert read_manifest(Store.of(built), IMAGE_SHARDS, KEY) == before
    assert DatasetStatus(built).state(IMAGE_SHARDS, 1).state == "complete"


LEASES = {
    "a list": ("000007", "[1]"),
    "holder a number": ("000007", '{"holder": 5, "host": "h"}'),
    "holder of huge numbers": ("000007", json.dumps({"holder": f"aa-bb-{'9' * 30}-1.0-{'9' * 12}", "host": "h"})),
    "from the future": ("000007", json.dumps({"holder": f"aa-bbbbbbbbbbbb-1-1.00-{10**10}", "host": "h"})),
    "nested": ("000007", "[" * 4_000),
    "not JSON": ("000007", "\0\0\0"),
    "number of 30 digits": ("9" * 30, "{}"),
    "Arabic digits": ("٣" * 6, "{}"),
    "superscript digits": ("²" * 6, "{}"),
    "more zeros": ("0000000009", "{}"),
}


@pytest.mark.parametrize("label", LEASES)
def test_tampered_lease_counts_as_released(built: Dataset, label: str) -> None:
    name, content = LEASES[label]
    folder = root(built) / f"leases/{IMAGE_SHARDS}/{KEY}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content, encoding="utf-8")
    rebuild(built)
    assert DatasetStatus(built).state(IMAGE_SHARDS, 1).state == "complete"


@pytest.mark.parametrize("folder", ["image_shards", "manifests", "manifests/image_shards", "staging", "leases"])
def test_folder_that_is_a_symbolic_link_is_not_followed(
    built: Dataset, canary: Path, folder: str, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    at = root(built) / folder
    at.mkdir(exist_ok=True)
    shutil.move(at, elsewhere)
    at.symlink_to(elsewhere)
    before = {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()}
    with pytest.raises(StoreError, match=f"{folder} is a symbolic link"):
        rebuild(built)
    state = DatasetStatus(built).state(IMAGE_SHARDS, 1)
    if folder not in ("staging", "leases"):
        assert (state.state, f"{folder} is a symbolic link" in state.reason) == ("damaged", True)
    assert {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()} == before


def test_links_above_the_store_are_followed(built: Dataset, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    linked = replace(built, root=str(tmp_path / "link"))
    rebuild(linked)
    assert DatasetStatus(linked).state(IMAGE_SHARDS, 1).state == "complete"


def test_tampered_manifest_of_raw_csv_deletes_no_file_outside_of_the_store(built: Dataset, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.csv").write_bytes(b"url,caption\n")
    dataset = replace(built, source=str(source))
    fetch_raw_csv(dataset, Store.of(dataset), lambda line: None)

    def change(fields: dict[str, Any]) -> None:
        fields["files"].append({"path": "../canary", "size": 1, "sha256": "0" * 64, "repeatable": True})
        fields["settings"] = "other"

    edit(place(dataset, RAW_CSV, "all"), change)
    fetch_raw_csv(dataset, Store.of(dataset), lambda line: None)
    assert DatasetStatus(dataset).state(RAW_CSV, 0).state == "complete"


@pytest.mark.parametrize("details", [{"origins": [1]}, {"origins": {"raw_csv/a.csv": 5}, "deleted_at_source": 3}])
def test_malformed_details_of_raw_csv_only_cause_a_new_fetch(
    built: Dataset, tmp_path: Path, details: dict[str, Any]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.csv").write_bytes(b"url,caption\n")
    dataset = replace(built, source=str(source))
    fetch_raw_csv(dataset, Store.of(dataset), lambda line: None)
    edit(place(dataset, RAW_CSV, "all"), put("details", value=details))
    fetch_raw_csv(dataset, Store.of(dataset), lambda line: None)
    assert DatasetStatus(dataset).state(RAW_CSV, 0).state == "complete"


INDEX_MANIFESTS: dict[str, tuple[Change, str]] = {
    "rows is text": (put("details", "rows", value="abc"), "rows is not a list"),
    "rows is shorter": (put("details", "rows", value=[1]), "rows has 1 files"),
    "rows is huge": (put("details", "rows", value=[10**12] * 2), "rows has 2 files with 2000000000000 rows"),
    "rows holds true": (put("details", "rows", value=[True, 69]), "rows is not a list"),
    "width is text": (put("details", "width", value="x"), "width"),
    "width is 0": (put("details", "width", value=0), "width"),
    "metric is a list": (put("details", "metric", value=[1]), "metric"),
    "model is a number": (put("details", "model", value=4), "model"),
    "inputs is a number": (put("details", "inputs", value=4), "inputs"),
    "inputs are shorter": (lambda d: d["details"]["inputs"].pop(), "inputs has 1 files"),
    "no details": (put("details", value={}), "model"),
    "details is null": (put("details", value=None), "details"),
    "metadata outside": (put("files", 0, "path", value="../canary/metadata_0.parquet"), "not a path inside"),
}


@pytest.mark.parametrize("label", INDEX_MANIFESTS)
def test_search_refuses_a_tampered_manifest_of_the_indices(built: Dataset, label: str) -> None:
    change, message = INDEX_MANIFESTS[label]
    edit(place(built, KNN_INDICES, "all"), change)
    with pytest.raises(IntegrityError, match=message):
        search(built)
    states(built)


def test_search_refuses_the_manifest_of_another_asset(built: Dataset) -> None:
    shutil.copy(place(built), place(built, KNN_INDICES, "all"))
    with pytest.raises(IntegrityError, match="misplaced"):
        search(built)


def flip(path: Path, at: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 0xFF
    path.unlink()  # Metadata is hard-linked.
    path.write_bytes(content)


def halve(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def swap(path: Path) -> None:
    other = path.with_name(path.name.replace("_0.", "_1."))
    content = other.read_bytes()
    path.unlink()
    path.write_bytes(content)


DAMAGES = {"a byte flipped": flip, "truncated": halve, "a symbolic link": link}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("path", [f"image_shards/{KEY}.tar", f"image_shards/{KEY}.parquet"])
def test_embeddings_are_not_built_from_a_damaged_shard(built: Dataset, damage: str, path: str) -> None:
    DAMAGES[damage](root(built) / path)
    if damage != "a byte flipped":
        assert states(built)[IMAGE_SHARDS][1] == "damaged"
    place(built, "clip_embeddings", "0").unlink()  # so that no vector can be reused
    with pytest.raises((IncompleteError, IntegrityError), match=f"{KEY}"):
        encode(built)


@pytest.mark.parametrize("kind", ["img_emb", "text_emb"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_index_is_not_built_from_damaged_vectors(built: Dataset, damage: str, kind: str) -> None:
    DAMAGES[damage](root(built) / f"clip_embeddings/{kind}/{kind}_0.npy")
    edit(place(built, KNN_INDICES, "all"), put("inputs", value="x"))
    before = place(built, KNN_INDICES, "all").read_bytes()
    message = f"{kind}_0.npy was altered" if damage == "a byte flipped" else "clip_embeddings of small is incomplete"
    with pytest.raises((EmbeddingError, IncompleteError), match=message):
        index(built)
    assert place(built, KNN_INDICES, "all").read_bytes() == before


def test_index_is_not_built_from_damaged_metadata(built: Dataset) -> None:
    flip(root(built) / "clip_embeddings/metadata/metadata_1.parquet")
    edit(place(built, KNN_INDICES, "all"), put("inputs", value="x"))
    with pytest.raises(EmbeddingError, match=r"metadata_1\.parquet was altered"):
        index(built)


METADATA: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (halve, "its size differs"),
    "a symbolic link": (link, "it is missing"),
    "swapped with another": (swap, "its size differs"),
    "its footer flipped": (lambda path: flip(path, -20), "footer"),
    "its end flipped": (lambda path: flip(path, -1), "its footer is damaged"),
}


@pytest.mark.parametrize("label", METADATA)
def test_search_refuses_damaged_metadata(built: Dataset, label: str) -> None:
    change, message = METADATA[label]
    change(root(built) / "knn_indices/metadata/metadata_0.parquet")
    with pytest.raises(IntegrityError, match=rf"metadata_0\.parquet .*{message}"):
        search(built)
    assert not verify_indices(Store.of(built), LAYOUT).ok


def test_search_refuses_metadata_of_the_same_size_with_other_rows(built: Dataset) -> None:
    """Sizes do not show a change of the captions of a file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = root(built) / "knn_indices/metadata/metadata_0.parquet"
    table = pq.read_table(path)
    size = path.stat().st_size
    path.unlink()
    for captions in ([f"{n:010d}" for n in range(table.num_rows)], ["x"] * table.num_rows):
        changed = table.set_column(table.schema.names.index("caption"), "caption", pa.array(captions))
        pq.write_table(changed, path, compression="none")
    manifest = place(built, KNN_INDICES, "all")

    def resize(fields: dict[str, Any]) -> None:
        for entry in fields["files"]:
            if entry["path"].endswith("metadata_0.parquet"):
                entry["size"] = path.stat().st_size

    assert path.stat().st_size != size
    edit(manifest, resize)
    with pytest.raises(IntegrityError, match="footer differs"):
        search(built)
    edit(manifest, lambda fields: fields["details"].pop("inputs"))  # As an earlier version wrote it.
    with pytest.raises(IntegrityError, match=r"its uid .* does not match its url and caption"):
        search(built)


def test_metadata_of_an_index_without_recorded_inputs_is_read(built: Dataset) -> None:
    edit(place(built, KNN_INDICES, "all"), lambda fields: fields["details"].pop("inputs"))
    search(built)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_index_is_never_opened(built: Dataset, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import faiss

    DAMAGES[damage](root(built) / "knn_indices/image.index")
    opened = []
    read_index = faiss.read_index
    monkeypatch.setattr(faiss, "read_index", lambda path, *flags: opened.append(path) or read_index(path, *flags))
    with pytest.raises(IntegrityError, match=r"image\.index (is damaged|cannot be opened)"):
        search(built)
    found = verify_indices(Store.of(built), LAYOUT)
    assert any(re.search(r"image\.index (is damaged|cannot be opened)", problem) for problem in found.problems)
    assert [Path(path).name for path in opened] == ["text.index"]


@pytest.fixture
def crawl(bare: Dataset, tmp_path: Path) -> Dataset:
    """A dataset whose source is a folder with one CSV, not fetched yet."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source/a.csv").write_bytes(b"url,caption\n")
    return replace(bare, source=str(tmp_path / "source"))


def fetch(dataset: Dataset) -> None:
    fetch_raw_csv(dataset, Store.of(dataset), lambda line: None)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "a file of 1 GB"])
def test_download_journal_that_is_not_a_file_is_refused(crawl: Dataset, kind: str) -> None:
    make, message = KINDS[kind]
    path = root(crawl) / PARTIAL_FOLDER / "journal"
    path.parent.mkdir(parents=True)
    make(path)
    with pytest.raises(StoreError, match=f"journal {message}"):
        fetch(crawl)


JOURNALS = [
    ["begin", "a.csv", [1, 2, 3, 4], 5],
    ["begin", "a.csv", ["u", "", "", "x"], 5],
    ["whole", "a.csv", ["u", "", "", 4], "12", 5],
    ["whole", ["a.csv"], ["u", "", "", 4], 12, ""],
    ["boot", 5],
]


@pytest.mark.parametrize("event", [*map(json.dumps, JOURNALS), "[" * 100_000])
def test_malformed_download_journal_only_causes_a_new_fetch(crawl: Dataset, event: str) -> None:
    folder = root(crawl) / PARTIAL_FOLDER
    folder.mkdir(parents=True)
    (folder / "journal").write_text(event + "\n", encoding="utf-8")
    (folder / hashlib.md5(b"a.csv").hexdigest()).write_bytes(b"x")
    fetch(crawl)
    assert (root(crawl) / "raw_csv/a.csv").read_bytes() == b"url,caption\n"


def test_downloads_do_not_follow_a_symbolic_link(crawl: Dataset, canary: Path) -> None:
    folder = root(crawl) / PARTIAL_FOLDER
    folder.mkdir(parents=True)
    (folder / hashlib.md5(b"a.csv").hexdigest()).symlink_to(canary / "precious.txt")
    fetch(crawl)
    assert (root(crawl) / "raw_csv/a.csv").read_bytes() == b"url,caption\n"


def test_download_folder_that_is_a_symbolic_link_is_refused(crawl: Dataset, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder = root(crawl) / PARTIAL_FOLDER
    folder.parent.mkdir(parents=True)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="partial is a symbolic link"):
        fetch(crawl)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("content", [b"[]", b"{", b'[{"path": 5}]', b'[{"name": "x"}]'])
def test_altered_list_of_published_files_is_refused_and_rebuilt(bare: Dataset, content: bytes) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"URL": ["http://a.test/1.jpg"], "TEXT": ["a"]}), root(bare).parent / "given.parquet")
    dataset = replace(bare, source="", published=(str(root(bare).parent / "given.parquet"),))
    store = Store.of(dataset)
    observe_published(dataset, store, lambda line: None)
    path = root(dataset) / "published_parquet/files.json"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"files\.json was altered"):
        read_list(store)

    def adopt(fields: dict[str, Any]) -> None:
        fields["files"][0].update(size=len(content), sha256=hashlib.sha256(content).hexdigest())

    edit(place(dataset, PUBLISHED_PARQUET, "all"), adopt)
    if content != b"[]":
        with pytest.raises(IntegrityError, match=r"files\.json is not a list of files"):
            read_list(store)
    observe_published(dataset, store, lambda line: None)
    assert [file.rows for file in read_list(store)] == [1]


def test_altered_statistics_are_not_shown(bare: Dataset) -> None:
    store = Store.of(bare)
    with open_transaction(store, DATASET_STATISTICS) as transaction:
        transaction.stage("statistics/dataset_statistics.json").write_bytes(b"{}")
        transaction.commit(Counts(1, 1), settings="s", inputs="i")
    assert read_summaries(store) == {DATASET_STATISTICS: {}}
    store.write_bytes("statistics/dataset_statistics.json", b"[]")
    with pytest.raises(IntegrityError, match=r"dataset_statistics\.json was altered"):
        read_summaries(store)


def test_foreign_report_is_not_overwritten(bare: Dataset) -> None:
    store = Store.of(bare)
    store.write_bytes("statistics/report.html", b"foreign")
    with pytest.raises(StoreError, match=r"would overwrite .*report\.html"):
        build_statistics(bare, store, DATASET_STATISTICS, lambda line: None)
    assert store.read_bytes("statistics/report.html") == b"foreign"
