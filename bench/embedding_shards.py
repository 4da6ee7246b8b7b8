"""Shards for the benchmark of embeddings: images of 256 pixels and captions, committed as the project's own."""

import hashlib
import io
import json
import os
import tarfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS, ImageShards
from laion_assets.stages.status import settings_digest
from laion_assets.store.manifest import Counts
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction

SIDE = 256
DISTINCT = 2_000
"""Number of different images; further samples repeat them, in another order."""
WORDS = ("a", "photo", "of", "the", "small", "red", "house", "by", "river", "with", "blue", "boats", "old", "trees")


def bench_dataset(folder: Path, rows: int, shards: int, model: str) -> Dataset:
    """Return the dataset whose shards `make_shards` commits: one embedding file."""
    layout = Layout(parquet_files=1, shards=shards, embedding_files=1, rows_per_shard=-(-rows // shards))
    return replace(SAMPLE, name="bench", root=str(folder / "store"), layout=layout, model=model)


def make_shards(folder: Path, rows: int, shards: int, model: str) -> float:
    """Create and commit the shards, with all cores; return the mean size of the images in bytes."""
    dataset = bench_dataset(folder, rows, shards, model)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        images = list(pool.map(make_image, range(min(DISTINCT, rows)), chunksize=25))
        tasks = [
            (dataset, shard, range(shard * rows // shards, (shard + 1) * rows // shards)) for shard in range(shards)
        ]
        list(pool.map(_commit_shard, tasks, [images] * shards))
    return sum(map(len, images)) / len(images)


def make_image(seed: int) -> bytes:
    """A JPEG of 256 pixels with energy in every octave, about 40 kB, as photographs have it."""
    import cv2
    from PIL import Image

    rng = np.random.default_rng(seed)
    image = np.zeros((1, 1, 3), np.float32)
    for octave in reversed(range(9)):
        side = -(-SIDE // 2**octave)
        image = cv2.resize(image, (side, side)) + 14 * rng.standard_normal((side, side, 1), np.float32)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(image + rng.uniform(40, 210, 3), 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def make_weights(model: str, folder: Path) -> str:
    """The name of a model with random weights of this open_clip architecture; `sample-clip` is itself.

    The weights are scaled so that different images have different vectors: else every cosine would be 1.
    """
    if model == "sample-clip":
        return model
    import torch
    from safetensors.torch import save_file

    from laion_assets.models.open_clip_package import import_open_clip

    open_clip = import_open_clip(model)
    torch.manual_seed(7)
    made = open_clip.create_model(model)
    with torch.no_grad():
        made.visual.class_embedding.zero_()
        made.visual.positional_embedding.mul_(0.3)
        made.visual.conv1.weight.mul_(8)
        made.token_embedding.weight.mul_(20)
    path = folder / "weights.safetensors"
    save_file({name: value.half().contiguous() for name, value in made.state_dict().items()}, path)
    return f"open_clip:{model}/{path}"


def _commit_shard(task: tuple[Dataset, int, range], images: list[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    dataset, shard, numbers = task
    layout = dataset.layout
    rng = np.random.default_rng(shard)
    rows = []
    with open_transaction(Store.of(dataset), IMAGE_SHARDS, layout.shard_key(shard)) as transaction:
        paths = {
            suffix: transaction.stage(ImageShards.path(layout, shard, suffix))
            for suffix in (".tar", ".parquet", "_stats.json")
        }
        with tarfile.open(paths[".tar"], "w", format=tarfile.USTAR_FORMAT) as tar:
            for row, number in enumerate(numbers):
                caption = " ".join(rng.choice(WORDS, rng.integers(4, 16)))
                url = f"http://photos.test/{number}.jpg"
                fields = {
                    "uid": hashlib.md5(f"{url}\0{caption}".encode()).hexdigest(),
                    "similarity": 0.3,
                    "caption": caption,
                    "url": url,
                    "key": layout.sample_key(shard, row),
                    "status": "success",
                    "width": SIDE,
                    "height": SIDE,
                }
                rows.append(fields)
                members = {
                    "jpg": images[number % len(images)],
                    "json": json.dumps(fields).encode(),
                    "txt": caption.encode(),
                }
                for suffix, content in members.items():
                    info = tarfile.TarInfo(f"{fields['key']}.{suffix}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        pq.write_table(pa.Table.from_pylist(rows), paths[".parquet"])
        paths["_stats.json"].write_text("{}", encoding="utf-8")
        transaction.commit(
            Counts(len(rows), len(rows)),
            settings=settings_digest(dataset, IMAGE_SHARDS),
            inputs="made by the benchmark",
        )
