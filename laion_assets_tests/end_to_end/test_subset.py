"""A subset of the sample: its whole graph completes, with the images that the whole dataset has already fetched."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from laion_assets.dataset.built_in import SAMPLE
from laion_assets_tests.end_to_end.conftest import Demo, command

SUBSET = "sample:1..1"


@pytest.fixture(scope="module")
def home(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's files up to its shards, and the subset built from them."""
    folder = tmp_path_factory.mktemp("subset")
    sample = folder / "data" / "sample"
    for name in ("raw_csv", "dedup_parquet", "dedup_rejects", "image_shards", "manifests", "leases"):
        shutil.copytree(demo.root / "sample" / name, sample / name)
    done = command(folder, "materialize", "--dataset", SUBSET)
    (folder / "output").write_text(done.stdout + done.stderr)
    return folder


def test_nothing_is_fetched_again(home: Path) -> None:
    for asset, partitions in (("raw_csv", 1), ("dedup_parquet", 1), ("image_shards", 6)):
        message = rf"{asset} .*\({partitions} of {partitions} partitions complete already: nothing to do\)"
        assert re.search(message, (home / "output").read_text()), asset


def test_every_partition_of_the_subset_is_complete(home: Path) -> None:
    found = json.loads(command(home, "status", "--dataset", SUBSET, "--json", "--check").stdout)
    complete = {asset: counts["complete"] for asset, counts in found.items()}
    assert complete == {
        "raw_csv": 1,
        "dedup_parquet": 1,
        "dataset_statistics": 1,
        "image_shards": 6,
        "image_statistics": 1,
        "clip_embeddings": 2,
        "knn_indices": 1,
        "search_report": 1,
    }
    assert found["dataset_statistics"]["rows"] == found["dedup_parquet"]["rows"]
    assert found["knn_indices"]["rows"] == found["clip_embeddings"]["rows"] == found["image_shards"]["rows"]


def test_its_vectors_are_those_of_the_whole_row_by_row(home: Path, demo: Demo) -> None:
    """Embedding file 1 of the whole has shards 4 to 7, of the subset 6 and 7; file 2 is the same in both."""
    own = home / "data" / "sample" / "subsets" / "sample_01_01"
    for number in (1, 2):
        name = f"clip_embeddings/img_emb/img_emb_{number}.npy"
        mine, whole = np.load(own / name), np.load(demo.root / "sample" / name)
        cosines = (mine.astype("f4") * whole[-len(mine) :].astype("f4")).sum(axis=1)
        assert cosines.min() > 0.999
    assert len(SAMPLE.subset(range(1, 2)).layout.shards_of_embedding(1)) == 2


def test_the_whole_does_not_see_the_subset_s_files(home: Path) -> None:
    assert sorted(path.name for path in (home / "data" / "sample" / "subsets" / "sample_01_01").iterdir()) == [
        "clip_embeddings",
        "knn_indices",
        "leases",
        "manifests",
        "search_report",
        "settings",
        "staging",
        "statistics",
    ]
    assert not (home / "data" / "sample" / "clip_embeddings").exists()


def test_it_can_be_searched(home: Path) -> None:
    found = command(home, "search", "--dataset", SUBSET, "a red circle left of a blue square")
    assert len(re.findall(r"^ +\d+\. +\d\.\d+", found.stdout, re.MULTILINE)) >= 5


@pytest.mark.parametrize(
    ("name", "message"),
    [("sample:3..9", "the dataset has 0..3"), ("sample:b", "Invalid subset"), ("samples", "Unknown dataset")],
)
def test_an_invalid_subset_is_refused(name: str, message: str, tmp_path: Path) -> None:
    done = command(tmp_path, "status", "--dataset", name, check=False)
    assert done.returncode == 2
    assert message in done.stderr
