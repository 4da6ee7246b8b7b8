"""The store of a subset: files up to the shards are shared with the whole dataset, later files are its own."""

from dataclasses import replace
from pathlib import Path

import pytest

from laion_assets.dataset.dataset import SAMPLE
from laion_assets.dataset.settings.resolution import Settings
from laion_assets.store.store import Store

SUBSET = SAMPLE.subset(range(0, 2))


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("image_shards/00000.tar", "image_shards/00000.tar"),
        ("manifests/image_shards/00000.json", "manifests/image_shards/00000.json"),
        ("leases/dedup_parquet/00/000001", "leases/dedup_parquet/00/000001"),
        ("clip_embeddings/img_emb/img_emb_0.npy", "subsets/sample_00_01/clip_embeddings/img_emb/img_emb_0.npy"),
        ("manifests/knn_indices/all.json", "subsets/sample_00_01/manifests/knn_indices/all.json"),
        ("staging/clip_embeddings/0", "subsets/sample_00_01/staging/clip_embeddings/0"),
    ],
)
@pytest.mark.parametrize("root", ["{tmp}", "memory://subset"])
def test_shared_files_are_with_the_whole_dataset_and_others_below_subsets(
    path: str, where: str, root: str, tmp_path: Path
) -> None:
    root = root.format(tmp=tmp_path)
    whole, part = Store.of(replace(SAMPLE, root=root)), Store.of(replace(SUBSET, root=root))
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
