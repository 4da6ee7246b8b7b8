"""Damaged copies of clip-retrieval's files are refused by name, and nothing is changed."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.dataset import SAMPLE_MODEL, Dataset
from laion_assets.errors import AdoptionError
from laion_assets.store.store import Store
from laion_assets_tests.stages.clip_embeddings.adoption.test_adopt_embeddings import adopt, local


def vectors(kind, change):
    def apply(folder):
        path = folder / kind / f"{kind}_0.npy"
        np.save(path, change(np.load(path)))

    return apply


def table(change):
    def apply(folder):
        path = folder / "metadata" / "metadata_0.parquet"
        pq.write_table(change(pq.read_table(path)), path)

    return apply


def column(name, change):
    def apply(found):
        values = change(found.column(name).to_pylist())
        return found.set_column(found.column_names.index(name), name, pa.array(values, pa.string()))

    return table(apply)


def truncate(name):
    def apply(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return apply


def drop_last_rows(folder):
    """As a run that ended early leaves them."""
    for kind in ("img_emb", "text_emb"):
        vectors(kind, lambda rows: rows[:-3])(folder)
    table(lambda found: found.slice(0, found.num_rows - 3))(folder)


def drop_last_shard(folder):
    for kind in ("img_emb", "text_emb"):
        vectors(kind, lambda rows: rows[:-15])(folder)
    table(lambda found: found.slice(0, found.num_rows - 15))(folder)


def repeat_as_second_file(folder):
    for kind, suffix in (("img_emb", "npy"), ("text_emb", "npy"), ("metadata", "parquet")):
        shutil.copy(folder / kind / f"{kind}_0.{suffix}", folder / kind / f"{kind}_1.{suffix}")


def set_rows(rows, value):
    def change(found):
        found[rows] = value
        return found

    return change


DAMAGES = {
    "truncated npy": (truncate("img_emb/img_emb_0.npy"), "file 0", "bytes, expected"),
    "truncated parquet": (truncate("metadata/metadata_0.parquet"), "file 0", "metadata cannot be read"),
    "float32": (vectors("text_emb", lambda rows: rows.astype(np.float32)), "file 0", "dtype float32, expected float16"),
    "another width": (vectors("text_emb", lambda rows: rows[:, :-1]), "file 0", "vectors of width"),
    "row missing in one npy": (vectors("text_emb", lambda rows: rows[1:]), "file 0", "different numbers of rows"),
    "row missing in metadata": (table(lambda found: found.slice(1)), "file 0", "different numbers of rows"),
    "not normalised": (vectors("img_emb", lambda rows: rows * 2), "file 0", "row 0 of its img_emb has norm 2.0"),
    "pickled objects": (
        vectors("img_emb", lambda rows: np.array([list(row) for row in rows.tolist()] + [None], dtype=object)),
        "file 0",
        "pickled objects",
    ),
    "vectors in another order": (vectors("img_emb", lambda rows: rows[::-1].copy()), "0", "is not the vector of"),
    "captions in another order": (vectors("text_emb", lambda rows: rows[::-1].copy()), "0", "row"),
    "many zeros": (vectors("img_emb", set_rows(slice(5), 0)), "0", "5 of 56 rows have a vector that is zero"),
    "paths of files": (column("image_path", lambda keys: ["a/b.jpg", *keys[1:]]), "file 0", "input_format=webdataset"),
    "sample twice": (column("image_path", lambda keys: [keys[1], *keys[1:]]), "file 0", "twice"),
    "sample of another shard": (
        column("image_path", lambda keys: ["000090000", *keys[1:]]),
        "file 0",
        "sample 000090000 of shard 00009, which adopting does not have",
    ),
    "sample without an image": (
        column("image_path", lambda keys: ["000009999", *keys[1:]]),
        "file 0",
        "sample 000009999, which has no image in its shard",
    ),
    "caption of another dataset": (
        column("caption", lambda captions: [*captions[:6], "another", *captions[7:]]),
        "file 0",
        "the embeddings are those of other shards",
    ),
    "url of another dataset": (
        column("url", lambda urls: ["http://a.test/", *urls[1:]]),
        "file 0",
        "the url of sample",
    ),
    "no captions": (
        table(lambda found: found.drop_columns(["caption"])),
        "file 0",
        "no columns image_path and caption",
    ),
    "rows of an early end": (
        drop_last_rows,
        "0",
        "whose image can be decoded (3 of 15 rows of shard 00003 are missing)",
    ),
    "rows of a shard": (drop_last_shard, "0", "no file has rows of shard 00003, which has 15 images"),
    "no text file": (
        lambda folder: (folder / "text_emb" / "text_emb_0.npy").unlink(),
        "file 0",
        "text_emb/text_emb_0.npy is missing",
    ),
    "the same rows twice": (repeat_as_second_file, "file 1", "has rows in file 0, too"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_named_and_nothing_is_changed(damage: str, dataset: Dataset, folder: Path) -> None:
    make, name, reason = DAMAGES[damage]
    make(folder)
    before = sorted(Path(dataset.root).rglob("*"))
    (refusal,) = adopt(dataset, folder).refused
    assert refusal.name == name
    assert reason in refusal.reason
    assert "Materialize" not in refusal.reason
    assert sorted(Path(dataset.root).rglob("*")) == before


def test_vectors_of_another_model_are_refused(dataset: Dataset, folder: Path) -> None:
    (refusal,) = adopt(replace(dataset, model=SAMPLE_MODEL), folder).refused
    assert refusal.name == "0"
    assert "vectors of width" in refusal.reason or "under the model sample-clip: cosine" in refusal.reason


def test_folders_of_other_programs_are_refused(dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AdoptionError, match="has no folder img_emb/"):
        adopt(dataset, tmp_path)
    for kind in ("img_emb", "text_emb", "metadata"):
        for path in (folder / kind).iterdir():
            path.unlink()
    with pytest.raises(AdoptionError, match="has no files of clip-retrieval inference"):
        adopt(dataset, folder)


def test_file_that_changes_after_its_verification_is_not_adopted(
    dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from laion_assets.orchestration import adoption

    prepare = adoption.prepare_store

    def change(*arguments):
        prepare(*arguments)
        vectors("img_emb", lambda rows: rows[::-1].copy())(folder)

    monkeypatch.setattr(adoption, "prepare_store", change)
    with pytest.raises(AdoptionError, match=r"img_emb_0.npy was changed or removed after it was verified"):
        adopt(dataset, folder)
    assert Store.of(dataset).names("clip_embeddings") == []
    assert not local(dataset, "img_emb").exists()
