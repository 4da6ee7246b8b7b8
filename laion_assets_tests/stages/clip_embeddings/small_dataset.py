"""A dataset of 4 shards and 2 embedding files, with shards written by hand as img2dataset writes them.

The model is a small vision transformer with random weights, scaled so that images and captions that differ have
vectors that differ: nothing here depends on what the trained model has learnt.
"""

import functools
import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets.models.clip_model import ClipModel
from laion_assets.models.loading import load_model
from laion_assets.models.open_clip_package import import_open_clip
from laion_assets.stages.clip_embeddings.build import build_embedding_file
from laion_assets.stages.clip_embeddings.settings import EmbeddingSettings
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS, ImageShards
from laion_assets.stages.knn_indices.build import build_indices
from laion_assets.stages.knn_indices.settings import IndexSettings
from laion_assets.stages.status import settings_digest
from laion_assets.store.manifest import Counts, Manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction

CONFIGURATION = Path(__file__).with_name("laion-assets-test.json")
"""The tests' own architecture."""
LAYOUT = Layout(parquet_files=2, shards=4, embedding_files=2, rows_per_shard=50)
SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("NSFW", pa.string()),
        ("similarity", pa.float64()),
        ("LICENSE", pa.string()),
        ("caption", pa.string()),
        ("url", pa.string()),
        ("key", pa.string()),
        ("status", pa.string()),
        ("error_message", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("exif", pa.string()),
        ("sha256", pa.string()),
    ]
)
ROWS = (23, 17, 0, 30)
"""Successes of each shard: none is a multiple of a batch, one is empty."""
WORDS = ("red", "blue", "tree", "Straße", "星の夜", "🐶 dog", "کتاب", "a | b", '"quoted"', "")


def register() -> None:
    """Make the tests' architecture known to open_clip in this process."""
    open_clip = import_open_clip()
    if CONFIGURATION.stem not in open_clip.list_models():
        open_clip.add_model_config(CONFIGURATION)


@functools.cache
def random_weights() -> Path:
    """A checkpoint of the tests' architecture with random weights, float16 safetensors."""
    register()
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(7)
    model = open_clip.create_model(CONFIGURATION.stem)
    with torch.no_grad():
        model.visual.class_embedding.zero_()
        model.visual.positional_embedding.mul_(0.3)
        model.visual.conv1.weight.mul_(8)
        model.token_embedding.weight.mul_(20)
    path = Path(tempfile.mkdtemp(prefix="laion-assets-test-")) / "weights.safetensors"
    save_file({name: value.half().contiguous() for name, value in model.state_dict().items()}, path)
    return path


def model_name() -> str:
    """The random model by its clip-retrieval name."""
    return f"open_clip:{CONFIGURATION.stem}/{random_weights()}"


@functools.cache
def random_model() -> ClipModel:
    """The random model, loaded once; on one core, for it is too small for two."""
    import torch

    torch.set_num_threads(1)
    return load_model(model_name(), device="cpu")


def small_dataset(root: Path) -> Dataset:
    """The dataset, without committed partitions."""
    return replace(
        SAMPLE,
        name="small",
        root=str(root),
        layout=LAYOUT,
        model=model_name(),
        images=replace(SAMPLE.images, resize_mode="no", encode_quality=100),  # its images have 96 x 80 px
        embeddings=EmbeddingSettings(batch_size=8, decode_threads=2, device="cpu"),
        index=IndexSettings("200M", "2G", recall_queries=30, cores=2),
    )


def make_jpeg(seed: int) -> bytes:
    """A JPEG that differs from every other seed's."""
    rng = np.random.default_rng(seed)
    pixels = np.empty((80, 96, 3), np.uint8)
    pixels[:] = rng.integers(0, 255, 3)
    for _ in range(3):
        top, left = rng.integers(0, 50, 2)
        pixels[top : top + 40, left : left + 40] = rng.integers(0, 255, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def sample_fields(shard: int, row: int, status: str = "success") -> dict[str, Any]:
    """The fields of a row's json and parquet, as img2dataset has them."""
    caption = f"{WORDS[row % len(WORDS)]} {shard} {row}" if row % 10 != 9 else ""
    url = f"http://photos-{shard:02d}.test/{row}.jpg"
    good = status == "success"
    return {
        "uid": hashlib.md5(f"{url}\0{caption}".encode()).hexdigest(),
        "NSFW": ("UNLIKELY", "UNSURE", "NSFW")[row % 3],
        "similarity": None if row == 3 else 0.3 + row / 1000,
        "LICENSE": "?",
        "caption": caption,
        "url": url,
        "key": LAYOUT.sample_key(shard, row),
        "status": status,
        "error_message": None if good else "HTTP Error 404",
        "width": 96 if good else None,
        "height": 80 if good else None,
        "original_width": 640 if good else None,
        "original_height": 480 if good else None,
        "exif": "{}" if good else None,
        "sha256": hashlib.sha256(url.encode()).hexdigest() if good else None,
    }


Members = list[tuple[str, bytes]]


def sample_members(shard: int, row: int, jpg: bytes | None = None) -> Members:
    """The three members of a sample, in the tar's order."""
    fields = sample_fields(shard, row)
    parts = {
        "jpg": jpg or make_jpeg(shard * 1000 + row),
        "json": json.dumps(fields).encode(),
        "txt": fields["caption"].encode(),
    }
    return [(f"{fields['key']}.{suffix}", content) for suffix, content in parts.items()]


def commit_shard(
    dataset: Dataset,
    shard: int,
    rows: int,
    change: Callable[[Members], Members] = lambda members: members,
    failures: Iterable[int] = (),
    jpgs: dict[int, bytes] | None = None,
) -> Manifest:
    """Publish a shard of `rows` rows; `change` may alter the tar's members before they are written."""
    store, failed = Store.of(dataset), set(failures)
    good = [row for row in range(rows) if row not in failed]
    members = change([part for row in good for part in sample_members(shard, row, (jpgs or {}).get(row))])
    with open_transaction(store, IMAGE_SHARDS, LAYOUT.shard_key(shard)) as transaction:
        with tarfile.open(transaction.stage(ImageShards.path(LAYOUT, shard, ".tar")), "w") as tar:
            for name, content in members:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        table = [sample_fields(shard, row, "failed_to_download" if row in failed else "success") for row in range(rows)]
        pq.write_table(
            pa.Table.from_pylist(table, SCHEMA), transaction.stage(ImageShards.path(LAYOUT, shard, ".parquet"))
        )
        transaction.stage(ImageShards.path(LAYOUT, shard, "_stats.json"), repeatable=False).write_text("{}")
        return transaction.commit(
            Counts(rows, len(good), {"http_404": len(failed)} if failed else {}),
            settings=settings_digest(dataset, IMAGE_SHARDS),
            inputs=f"rows of {shard}",
        )


def commit_shards(dataset: Dataset) -> None:
    """Publish all four shards, the first with two failures."""
    commit_shard(dataset, 0, ROWS[0] + 2, failures=(4, 7))
    for shard in range(1, LAYOUT.shards):
        commit_shard(dataset, shard, ROWS[shard])


@functools.cache
def built_root() -> Path:
    """A root in which shards, embeddings and indices of the small dataset are published; copy it before changing it."""
    root = Path(tempfile.mkdtemp(prefix="laion-assets-test-"))
    dataset = small_dataset(root)
    commit_shards(dataset)
    for embedding in range(LAYOUT.embedding_files):
        build_embedding_file(dataset, Store.of(dataset), embedding, random_model(), lambda line: None)
    build_indices(dataset, Store.of(dataset), lambda line: None)
    return root
