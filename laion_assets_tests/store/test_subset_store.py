"""The store of a subset and of an embedding set: shared files are with the whole dataset, others are its own."""

from dataclasses import replace
from pathlib import Path

import pytest

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.embedding_set import EmbeddingSet
from laion_assets.dataset.settings.resolution import Settings
from laion_assets.store.store import Store

SUBSET = SAMPLE.subset(range(0, 2))
SET = replace(SAMPLE, embedding_sets=(EmbeddingSet("small", "ViT-B/32"),)).embedding_set("small")
SHARED = (
    "image_shards/00000.tar",
    "manifests/image_shards/00000.json",
    "leases/dedup_parquet/00/000001",
    "local_failures/image_shards/00000.json",
)
STATISTICS = ("statistics/report.html", "manifests/image_statistics/all.json")
OWN = (
    "clip_embeddings/img_emb/img_emb_0.npy",
    "manifests/knn_indices/all.json",
    "staging/clip_embeddings/0",
    "search_report/report.html",
    "manifests/layout.json",
)
CASES = [
    *((SUBSET, path, "") for path in SHARED),
    *((SUBSET, path, "subsets/sample_00_01/") for path in (*OWN, *STATISTICS)),
    *((SET, path, "") for path in (*SHARED, *STATISTICS)),
    *((SET, path, "embedding_sets/small/") for path in OWN),
    *((SET.subset(range(0, 2)), path, "subsets/sample_small_00_01/") for path in OWN),
]


@pytest.mark.parametrize(("dataset", "path", "folder"), CASES, ids=lambda value: getattr(value, "name", None))
@pytest.mark.parametrize("root", ["{tmp}", "memory://subset"])
def test_shared_files_are_with_the_whole_dataset_and_others_in_the_own_folder(
    dataset: Dataset, path: str, folder: str, root: str, tmp_path: Path
) -> None:
    root, where = root.format(tmp=tmp_path), f"{folder}{path}"
    whole, part = Store.of(replace(SAMPLE, root=root)), Store.of(replace(dataset, root=root))
    part.write_bytes(path, b"content")
    assert whole.read_bytes(where) == b"content"
    assert part.size(path) == 7
    assert part.sizes([path] * 40)[path] == 7
    assert part.address(path) == whole.address(where)
    assert path.rpartition("/")[2] in part.names(path.rpartition("/")[0])
    part.delete(path)
    assert whole.size(where) is None


def test_a_subset_has_the_settings_of_the_whole_unless_it_has_its_own() -> None:
    environment = {"LAION_ASSETS_SAMPLE_IMAGES_THREADS": "7", "LAION_ASSETS_SAMPLE_IMAGES_PROCESSES": "3"}
    environment |= {"LAION_ASSETS_SAMPLE_00_01_IMAGES_PROCESSES": "1"}
    images = Settings({}, "", environment).apply(SUBSET).images
    assert (images.threads, images.processes) == (7, 1)
