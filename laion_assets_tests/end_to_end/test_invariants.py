"""Each invariant is violated on purpose: the check or the reader detects exactly that violation and names it."""

import io
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.dataset import SAMPLE_MODEL, Dataset
from laion_assets.errors import IncompleteError, LaionAssetsError, LayoutError
from laion_assets.models.clip_model import ClipModel
from laion_assets.models.loading import load_model
from laion_assets.orchestration.checks.row_counts import verify
from laion_assets.stages.clip_embeddings.build import build_embedding_file
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS, ClipEmbeddings
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS, ImageShards
from laion_assets.stages.knn_indices.build import build_indices
from laion_assets.stages.raw_csv.handle import RAW_CSV
from laion_assets.stages.registry import find_stage, partition_paths, pipeline_names
from laion_assets.stages.status import DatasetStatus, require_complete
from laion_assets.stages.stored_layout import prepare_store, remove_old_layout
from laion_assets.store.manifest import read_manifest
from laion_assets.store.store import Store

PIPELINE = pipeline_names(SAMPLE)

Copy = Callable[..., Dataset]


@lru_cache(maxsize=1)
def sample_model() -> ClipModel:
    return load_model(SAMPLE_MODEL)


SHARD = 5
EMBEDDING = 1


def files(dataset: Dataset) -> Path:
    return Path(dataset.root) / dataset.name


def shard_file(dataset: Dataset, suffix: str) -> Path:
    return files(dataset) / ImageShards.path(dataset.layout, SHARD, suffix)


def rewrite_tar(path: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> None:
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    change(members)
    with tarfile.open(path, "w") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))


def problem(dataset: Dataset, asset: str, partition: int) -> str:
    found = verify(dataset, asset, tuple(find_stage(asset).handle.numbers(dataset.layout)), sample_model)
    key = find_stage(asset).handle.key(dataset.layout, partition)
    assert list(found) == [key], f"exactly partition {key} violates the invariant, the check found {found}"
    return " / ".join(found[key])


@pytest.mark.parametrize("asset", PIPELINE)
def test_an_intact_dataset_satisfies_every_invariant(asset: str, sample_copy: Copy) -> None:
    dataset = sample_copy()
    assert verify(dataset, asset, tuple(find_stage(asset).handle.numbers(dataset.layout)), sample_model) == {}


def test_a_dropped_tar_member(sample_copy: Copy) -> None:
    dataset = sample_copy("dedup_parquet", "image_shards")
    dropped = []

    def drop(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        dropped.append(members.pop(7)[0].name)

    rewrite_tar(shard_file(dataset, ".tar"), drop)
    message = problem(dataset, IMAGE_SHARDS, SHARD)
    assert dropped[0].split(".")[0] in message


def test_a_duplicate_tar_sample(sample_copy: Copy) -> None:
    dataset = sample_copy("dedup_parquet", "image_shards")
    rewrite_tar(shard_file(dataset, ".tar"), lambda members: members.extend(members[:3]))
    with tarfile.open(shard_file(dataset, ".tar")) as tar:
        duplicate = tar.getnames()[0].split(".")[0]
    assert duplicate in problem(dataset, IMAGE_SHARDS, SHARD)


def test_a_duplicate_parquet_row(sample_copy: Copy) -> None:
    dataset = sample_copy("dedup_parquet", "image_shards")
    path = shard_file(dataset, ".parquet")
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), path)
    assert f"{table.num_rows + 1} rows" in problem(dataset, IMAGE_SHARDS, SHARD)


def test_a_truncated_tar(sample_copy: Copy) -> None:
    dataset = sample_copy("dedup_parquet", "image_shards")
    path = shard_file(dataset, ".tar")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    message = problem(dataset, IMAGE_SHARDS, SHARD)
    assert "00005.tar" in message
    state = DatasetStatus(dataset).state(IMAGE_SHARDS, SHARD)
    assert (state.state, "00005.tar" in state.reason) == ("damaged", True)


def test_a_tar_without_its_end(sample_copy: Copy) -> None:
    dataset = sample_copy("dedup_parquet", "image_shards")
    path = shard_file(dataset, ".tar")
    content = path.read_bytes()
    path.write_bytes(content.rstrip(b"\0"))
    assert "00005.tar" in problem(dataset, IMAGE_SHARDS, SHARD)


def test_a_duplicate_row_in_a_row_group(sample_copy: Copy) -> None:
    dataset = sample_copy("dedup_parquet", "dedup_rejects")
    path = files(dataset) / "dedup_parquet" / "02.parquet"
    parquet = pq.ParquetFile(path)
    groups = [parquet.read_row_group(number) for number in range(parquet.num_row_groups)]
    groups[3] = pa.concat_tables([groups[3].slice(0, 1), groups[3]])
    with pq.ParquetWriter(path, parquet.schema_arrow) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=10_000)
    message = problem(dataset, DEDUP_PARQUET, 2)
    assert groups[3].column("uid")[0].as_py() in message
    assert "duplicate" in message


def test_two_swapped_vectors(sample_copy: Copy) -> None:
    dataset = sample_copy("image_shards", "clip_embeddings")
    path = files(dataset) / ClipEmbeddings.path(dataset.layout, EMBEDDING, "img_emb")
    vectors = np.load(path)
    vectors[[0, 1]] = vectors[[1, 0]]
    np.save(path, vectors)
    message = problem(dataset, CLIP_EMBEDDINGS, EMBEDDING)
    assert "row 0" in message
    assert "row 1" in message
    assert "row 2" not in message


def test_an_npy_of_another_width(sample_copy: Copy) -> None:
    dataset = sample_copy("image_shards", "clip_embeddings")
    path = files(dataset) / ClipEmbeddings.path(dataset.layout, EMBEDDING, "img_emb")
    np.save(path, np.load(path)[:, :-1])
    assert "img_emb_1.npy" in problem(dataset, CLIP_EMBEDDINGS, EMBEDDING)
    with pytest.raises(LaionAssetsError, match=r"img_emb_1\.npy"):
        build_indices(dataset, Store.of(dataset), print)


def test_a_removed_shard_is_named_by_the_stage_downstream(sample_copy: Copy) -> None:
    dataset = sample_copy("image_shards", "clip_embeddings")
    shard_file(dataset, ".tar").unlink()
    (files(dataset) / "manifests" / "image_shards" / "00005.json").unlink()
    (files(dataset) / "manifests" / "clip_embeddings" / "1.json").unlink()
    with pytest.raises(IncompleteError, match="00005"):
        build_embedding_file(dataset, Store.of(dataset), EMBEDDING, sample_model(), print)
    with pytest.raises(IncompleteError, match="00005"):
        require_complete(dataset, ImageShards.of(dataset))
    with pytest.raises(IncompleteError, match=r"clip_embeddings of sample is incomplete: 1 \(not committed\)"):
        build_indices(dataset, Store.of(dataset), print)


def test_foreign_files_among_the_shards_are_ignored(sample_copy: Copy) -> None:
    dataset = sample_copy("dedup_parquet", "image_shards")
    shutil.copy(shard_file(dataset, ".tar"), files(dataset) / "image_shards" / "99999.tar")
    (files(dataset) / "image_shards" / "notes.json").write_text("{}")
    assert verify(dataset, IMAGE_SHARDS, (SHARD,), sample_model) == {}
    assert [state.state for state in DatasetStatus(dataset).states(IMAGE_SHARDS)] == ["complete"] * 24


@pytest.mark.parametrize("asset", [name for name in PIPELINE if name != RAW_CSV])
def test_a_manifest_names_exactly_the_files_of_its_partition(sample_copy: Copy, asset: str) -> None:
    """Except `raw_csv`, whose files have the names that they have at the source."""
    dataset = sample_copy()
    store = Store.of(dataset)
    keys = [name.removesuffix(".json") for name in store.names(f"manifests/{asset}")]
    assert keys
    for key in keys:
        manifest = read_manifest(store, asset, key)
        assert manifest is not None
        assert {entry.path for entry in manifest.files} == set(partition_paths(asset, key, dataset.layout)), key


def test_removing_an_old_layout_removes_real_partitions(sample_copy: Copy) -> None:
    dataset = sample_copy()
    smaller = replace(dataset, layout=replace(dataset.layout, shards=4, embedding_files=1))
    with pytest.raises(LayoutError, match=r"image_shards 00000, 00001, .* \(24\)"):
        prepare_store(smaller, IMAGE_SHARDS, [0])
    assert remove_old_layout(smaller) > 30
    assert not [path for path in (files(dataset) / IMAGE_SHARDS).glob("*") if path.is_file()]
    prepare_store(smaller, IMAGE_SHARDS, [0])
