"""An embedding file: row i of its three files is one sample; the invariant holds; a rerun has the same bytes."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import EmbeddingError, IncompleteError, IntegrityError, ModelError
from laion_assets.models.loading import load_model
from laion_assets.models.open_clip_package import import_open_clip
from laion_assets.stages.clip_embeddings.build import build_embedding_file
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS, ClipEmbeddings
from laion_assets.stages.clip_embeddings.pipeline.finished_groups import FinishedGroups
from laion_assets.stages.clip_embeddings.pipeline.pools import pool_starter
from laion_assets.stages.clip_embeddings.settings import EmbeddingSettings
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.store.build_result import BuildResult
from laion_assets.store.manifest import read_manifest
from laion_assets.store.store import Store
from laion_assets_tests.models.tiny_models import open_clip_siglip
from laion_assets_tests.stages.clip_embeddings.small_dataset import (
    LAYOUT,
    ROWS,
    SCHEMA,
    commit_shard,
    commit_shards,
    make_jpeg,
    model_name,
    random_model,
    sample_fields,
    small_dataset,
)


def build(dataset: Dataset, embedding: int = 0) -> BuildResult:
    return build_embedding_file(dataset, Store.of(dataset), embedding, random_model(), lambda line: None)


def local(dataset: Dataset, kind: str, embedding: int = 0) -> Path:
    return Store.of(dataset).local_root / ClipEmbeddings.path(LAYOUT, embedding, kind)


def files_of(dataset: Dataset, embedding: int = 0) -> list[str]:
    return [
        hashlib.sha256(local(dataset, k, embedding).read_bytes()).hexdigest()
        for k in ("img_emb", "text_emb", "metadata")
    ]


def staging_of(dataset: Dataset) -> list[str]:
    return Store.of(dataset).names(f"staging/{CLIP_EMBEDDINGS}")


def test_rows_are_the_samples_of_the_shards_in_order(sharded: Dataset) -> None:
    manifest, made = build(sharded)
    assert made
    good = [sample_fields(0, row) for row in range(ROWS[0] + 2) if row not in (4, 7)]
    good += [sample_fields(1, row) for row in range(ROWS[1])]
    table = pq.read_table(local(sharded, "metadata")).to_pylist()
    assert [row["image_path"] for row in table] == [fields["key"] for fields in good]
    for row, fields in zip(table, good, strict=True):
        assert -1 <= row.pop("clip_similarity") <= 1
        assert row == {"image_path": fields["key"], **fields}
    assert manifest.counts.rows_in == manifest.counts.rows_out == len(good) == 40
    assert manifest.counts.reasons == {}
    images, texts = np.load(local(sharded, "img_emb")), np.load(local(sharded, "text_emb"))
    assert images.shape == texts.shape == (40, random_model().width)
    assert images.dtype == texts.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(images.astype(np.float32), axis=1), 1, atol=2e-3)
    again = random_model().encode_texts([fields["caption"] for fields in good])
    assert (texts.astype(np.float32) * again).sum(axis=1).min() > 0.999


def test_manifest_describes_model_and_run(sharded: Dataset) -> None:
    details = build(sharded).manifest.details
    assert details["model"] == random_model().identity
    assert (details["width"], details["dtype"], details["device"], details["precision"]) == (
        128,
        "float16",
        "cpu",
        "fp32",
    )
    assert details["shards"] == ["00000", "00001"]
    assert details["rows_per_second"] > 0


def test_each_shard_with_rows_is_a_row_group(sharded: Dataset) -> None:
    build(sharded, 0)
    build(sharded, 1)
    found = [pq.ParquetFile(local(sharded, "metadata", i)).metadata for i in (0, 1)]
    assert [[m.row_group(g).num_rows for g in range(m.num_row_groups)] for m in found] == [[23, 17], [30]]


def test_the_columns_do_not_depend_on_the_values(bare: Dataset) -> None:
    commit_shard(bare, 0, 0)
    commit_shard(bare, 1, 2, failures=[0, 1])
    manifest, _ = build(bare)
    assert manifest.counts.rows_out == 0
    assert np.load(local(bare, "img_emb")).shape == (0, random_model().width)
    schema = pq.read_schema(local(bare, "metadata"))
    assert schema.names == [
        "image_path",
        "caption",
        *[name for name in SCHEMA.names if name != "caption"],
        "clip_similarity",
    ]
    assert all(schema.field(name).type == SCHEMA.field(name).type for name in SCHEMA.names)


def test_complete_file_is_not_rebuilt(sharded: Dataset) -> None:
    first = build(sharded)
    second = build(sharded)
    assert (first.was_built, second.was_built) == (True, False)
    assert second.manifest == first.manifest


def test_a_rerun_produces_the_same_bytes(sharded: Dataset) -> None:
    build(sharded)
    before = files_of(sharded)
    Store.of(sharded).delete(f"manifests/{CLIP_EMBEDDINGS}")
    assert build(sharded).was_built
    assert files_of(sharded) == before


def test_a_killed_run_continues_after_its_last_finished_group(
    sharded: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    sharded = replace(sharded, layout=replace(LAYOUT, rows_per_shard=50))
    model, encode, calls = random_model(), random_model().pixel_vectors, []

    def fails_late(pixels):
        calls.append(len(pixels))
        if len(calls) == 5:
            raise OSError("the disk is full")
        return encode(pixels)

    monkeypatch.setattr(model, "pixel_vectors", fails_late)
    with pytest.raises(OSError, match="disk"):
        build(sharded)
    assert read_manifest(Store.of(sharded), CLIP_EMBEDDINGS, "0") is None
    assert staging_of(sharded) in ([], ["0"])
    assert not local(sharded, "img_emb").exists()
    assert calls == [7, 8, 8, 5, 6], "shard 0 in batches of equal size, then shard 1"
    manifest = build(sharded).manifest
    assert calls[5:] == [5, 6, 6], "shard 0 was finished"
    assert manifest.details["rows_reused"] == ROWS[0]
    assert not Store.of(sharded).local_path("partial").exists()
    resumed = files_of(sharded)
    Store.of(sharded).delete(f"manifests/{CLIP_EMBEDDINGS}")
    monkeypatch.undo()
    build(sharded)
    assert files_of(sharded) == resumed


def test_groups_that_a_run_left_behind_at_its_commit_are_removed(
    sharded: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(FinishedGroups, "clear", lambda groups: None)
        build(sharded)
    partial = Store.of(sharded).local_path("partial")
    assert partial is not None
    assert len(list(partial.rglob("*.npz"))) == 2
    assert not build(sharded).was_built
    assert not partial.exists()


@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (512, 5), (7, 2)])
def test_vectors_do_not_depend_on_batch_size_and_threads(
    sharded: Dataset, tmp_path: Path, batch: int, threads: int
) -> None:
    build(sharded)
    other = small_dataset(tmp_path / "other")
    other = replace(other, embeddings=EmbeddingSettings(batch_size=batch, decode_threads=threads, device="cpu"))
    commit_shards(other)
    build(other)
    tables = [pq.read_table(local(dataset, "metadata")) for dataset in (sharded, other)]
    assert tables[0].drop_columns(["clip_similarity"]) == tables[1].drop_columns(["clip_similarity"])
    np.testing.assert_allclose(*(table["clip_similarity"].to_numpy() for table in tables), atol=1e-3)
    for kind in ("img_emb", "text_emb"):
        ours, theirs = (np.load(local(d, kind)).astype(np.float32) for d in (sharded, other))
        assert (ours * theirs).sum(axis=1).min() > 0.999


def test_processes_that_prepare_and_decode_produce_the_same_bytes(bare: Dataset) -> None:
    commit_shard(bare, 0, 23, jpgs={2: b"\xff\xd8 no picture", 7: make_jpeg(5)[:700]})
    commit_shard(bare, 1, 17)
    commit_shard(bare, 2, 0)
    commit_shard(bare, 3, 30)
    build(bare), build(bare, 1)
    expected = [files_of(bare, 0), files_of(bare, 1)]
    Store.of(bare).delete(f"manifests/{CLIP_EMBEDDINGS}")
    model = load_model(model_name(), device="cpu", start_pools=pool_starter(2))
    try:
        for embedding in (0, 1):
            build_embedding_file(bare, Store.of(bare), embedding, model, lambda line: None)
    finally:
        model.close()
    assert [files_of(bare, 0), files_of(bare, 1)] == expected


def test_undecodable_image_is_dropped_from_all_files_and_counted(bare: Dataset) -> None:
    broken = {2: b"\xff\xd8 no picture", 5: make_jpeg(5)[:700], 11: b""}
    commit_shard(bare, 0, 12, jpgs=broken | {11: b"GIF89a"})
    commit_shard(bare, 1, 3, jpgs={0: b"x", 1: b"y", 2: b"z"})
    manifest, _ = build(bare)
    assert (manifest.counts.rows_in, manifest.counts.rows_out) == (15, 9)
    assert manifest.counts.reasons == {"undecodable": 6}
    keys = pq.read_table(local(bare, "metadata"))["image_path"].to_pylist()
    assert keys == [LAYOUT.sample_key(0, row) for row in range(12) if row not in (2, 5, 11)]
    from laion_assets.stages.clip_embeddings.pipeline.decoding import decode_image as decoded

    images = np.load(local(bare, "img_emb")).astype(np.float32)
    pixels = [random_model().preprocess(decoded(make_jpeg(int(key)))) for key in keys]
    import torch

    assert (images * random_model().encode_images(torch.stack(pixels))).sum(axis=1).min() > 0.999


def test_missing_shards_are_named(bare: Dataset) -> None:
    commit_shard(bare, 0, 3)
    with pytest.raises(IncompleteError, match=r"image_shards.*00001"):
        build(bare)
    with pytest.raises(IncompleteError, match=r"00002.*00003"):
        build(bare, 1)


def test_a_shard_that_was_removed_is_named(built: Dataset) -> None:
    Store.of(built).delete(ImageShards.path(LAYOUT, 1, ".tar"))
    with pytest.raises(IncompleteError, match=r"00001.*00001\.tar is missing"):
        build(built)


def test_damaged_shard_commits_nothing(sharded: Dataset) -> None:
    tar = Store.of(sharded).local_root / ImageShards.path(LAYOUT, 1, ".tar")
    content = bytearray(tar.read_bytes())
    content[-20_000] ^= 0xFF
    tar.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"00001\.tar"):
        build(sharded)
    assert read_manifest(Store.of(sharded), CLIP_EMBEDDINGS, "0") is None


def test_altered_embedding_file_is_rebuilt(built: Dataset) -> None:
    before = files_of(built)
    for kind in ("img_emb", "metadata"):
        path = local(built, kind)
        content = bytearray(path.read_bytes())
        content[-100] ^= 0x01
        path.unlink()
        path.write_bytes(content)
        logged: list[str] = []
        assert build_embedding_file(built, Store.of(built), 0, random_model(), logged.append).was_built
        assert files_of(built) == before
        assert any("altered" in line for line in logged)


def test_rebuilt_shard_with_other_rows_causes_a_rebuild(built: Dataset) -> None:
    commit_shard(built, 1, 5)
    assert build(built, 0).was_built
    assert not build(built, 1).was_built
    assert len(np.load(local(built, "img_emb"))) == ROWS[0] + 5


def test_changed_shard_reencodes_only_its_group(built: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    before = np.load(local(built, "img_emb"))[ROWS[0] :].copy()
    commit_shard(built, 0, 21)
    encoded, encode = [], random_model().pixel_vectors
    monkeypatch.setattr(random_model(), "pixel_vectors", lambda pixels: encoded.append(len(pixels)) or encode(pixels))
    manifest = build(built).manifest
    assert sum(encoded) == 21
    assert manifest.details["rows_reused"] == ROWS[1]
    np.testing.assert_array_equal(np.load(local(built, "img_emb"))[21:], before)
    changed = files_of(built)
    Store.of(built).delete(f"manifests/{CLIP_EMBEDDINGS}")
    build(built)
    assert files_of(built) == changed


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_vector_without_direction_drops_its_row(bare: Dataset, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    commit_shard(bare, 0, 12)
    commit_shard(bare, 1, 5)
    encode, calls = random_model().pixel_vectors, []

    def breaks_one(pixels):
        vectors = encode(pixels).clone()
        if not calls:
            vectors[3] = value
        calls.append(len(pixels))
        return vectors

    monkeypatch.setattr(random_model(), "pixel_vectors", breaks_one)
    logged: list[str] = []
    manifest = build_embedding_file(bare, Store.of(bare), 0, random_model(), logged.append).manifest
    assert (manifest.counts.rows_in, manifest.counts.rows_out) == (17, 16)
    assert manifest.counts.reasons == {"no_direction": 1}
    assert LAYOUT.sample_key(0, 3) not in pq.read_table(local(bare, "metadata"))["image_path"].to_pylist()
    assert len(np.load(local(bare, "img_emb"))) == len(np.load(local(bare, "text_emb"))) == 16
    assert any("000000003" in line for line in logged)


def test_a_build_that_runs_out_of_gpu_memory_has_the_same_rows(
    sharded: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(sharded)
    expected = [np.load(local(sharded, kind)).astype(np.float32) for kind in ("img_emb", "text_emb")]
    Store.of(sharded).delete(f"manifests/{CLIP_EMBEDDINGS}")
    model, sizes = load_model(model_name(), device="cpu"), []

    def with_little_memory(encode: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
        def encode_few(part: torch.Tensor) -> torch.Tensor:
            sizes.append(len(part))
            if len(part) > 3:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return encode(part)

        return encode_few

    for name in ("_encode_image", "_encode_text"):
        monkeypatch.setattr(model, name, with_little_memory(getattr(model, name)))
    assert build_embedding_file(sharded, Store.of(sharded), 0, model, lambda line: None).was_built
    assert sizes[0] > 3
    assert sizes.count(sizes[0]) < 3, "the smaller batch is remembered"
    for kind, vectors in zip(("img_emb", "text_emb"), expected, strict=True):
        found = np.load(local(sharded, kind)).astype(np.float32)
        assert found.shape == vectors.shape
        assert (found * vectors).sum(axis=1).min() > 0.999


def test_many_vectors_without_direction_fail_the_file(bare: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    commit_shard(bare, 0, 12)
    commit_shard(bare, 1, 5)
    encode = random_model().pixel_vectors
    monkeypatch.setattr(random_model(), "pixel_vectors", lambda pixels: encode(pixels) * float("nan"))
    with pytest.raises(EmbeddingError, match=r"12 of 17 samples: 000000000.*embeddings\.precision"):
        build(bare)
    assert read_manifest(Store.of(bare), CLIP_EMBEDDINGS, "0") is None


def test_clip_similarity_is_the_cosine_of_the_rows_vectors(sharded: Dataset) -> None:
    build(sharded)
    images, texts = (np.load(local(sharded, kind)).astype(np.float32) for kind in ("img_emb", "text_emb"))
    similarity = pq.read_table(local(sharded, "metadata"))["clip_similarity"].to_numpy()
    np.testing.assert_allclose(similarity, (images * texts).sum(axis=1), atol=1e-3)
    assert similarity.dtype == np.float32
    assert similarity.std() > 0.01


@pytest.mark.parametrize("mode", ["sizes", "formats", "grey", "cmyk"])
def test_images_of_any_size_and_kind_have_their_own_vectors(bare: Dataset, mode: str) -> None:
    from laion_assets.models.images import decode_image

    images = {row: odd_image(row, mode) for row in range(12)}
    commit_shard(bare, 0, 12, jpgs=images)
    commit_shard(bare, 1, 0)
    build(bare)
    pixels = torch.stack([random_model().preprocess(decode_image(images[row])) for row in range(12)])
    vectors = np.load(local(bare, "img_emb")).astype(np.float32)
    assert (vectors * random_model().encode_images(pixels)).sum(axis=1).min() > 0.999


def odd_image(row: int, mode: str) -> bytes:
    image = Image.open(io.BytesIO(make_jpeg(row)))
    if mode == "sizes":
        image = image.resize((40 + row % 3 * 16, 60 + row))
    buffer = io.BytesIO()
    kind = {"grey": "L", "cmyk": "CMYK"}.get(mode, "RGB")
    image.convert(kind).save(buffer, ("JPEG", "PNG", "WEBP")[row % 3] if mode == "formats" else "JPEG", quality=95)
    return buffer.getvalue()


def test_a_siglip_embeds_a_shard_as_open_clip_does(bare: Dataset, tmp_path: Path) -> None:
    name, checkpoint = open_clip_siglip(tmp_path / "siglip")
    dataset = replace(bare, model=f"open_clip:{name}/{checkpoint}")
    commit_shard(dataset, 0, 12)
    commit_shard(dataset, 1, 3)
    model = load_model(dataset.model, device="cpu")
    assert build_embedding_file(dataset, Store.of(dataset), 0, model, lambda line: None).manifest.counts.rows_out == 15
    open_clip = import_open_clip(name)
    library, _, preprocess = open_clip.create_model_and_transforms(name, pretrained="webli")
    rows = [(shard, row) for shard, rows in ((0, 12), (1, 3)) for row in range(rows)]
    pixels = [preprocess(Image.open(io.BytesIO(make_jpeg(shard * 1000 + row)))) for shard, row in rows]
    tokens = open_clip.get_tokenizer(name)([sample_fields(shard, row)["caption"] for shard, row in rows])
    with torch.inference_mode():
        expected = library.eval().encode_image(torch.stack(pixels)), library.encode_text(tokens)
    for kind, vectors in zip(("img_emb", "text_emb"), expected, strict=True):
        cosine = torch.nn.functional.cosine_similarity(vectors, torch.from_numpy(np.load(local(dataset, kind))).float())
        assert cosine.min() > 0.9999


def test_model_of_another_dataset_is_rejected(sharded: Dataset) -> None:
    other = replace(sharded, model="ViT-B/32")
    with pytest.raises(ModelError, match="ViT-B/32"):
        build(other)


def test_progress_and_dropped_rows_are_logged(bare: Dataset) -> None:
    commit_shard(bare, 0, 12, jpgs={2: b"broken"})
    commit_shard(bare, 1, 3)
    logged: list[str] = []
    build_embedding_file(bare, Store.of(bare), 0, random_model(), logged.append)
    assert any("000000002" in line and "00000" in line for line in logged)
    assert any("15/15 samples" in line for line in logged)
