"""One measurement of the benchmark of embeddings: ours, or the model alone; clip-retrieval's is in `embedding_peer`."""

import argparse
import contextlib
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.embedding_shards import bench_dataset

_COMPARED = 256
"""Images encoded once more, by the model's own transform in fp32, to compare ours with."""
_TOKENS = 77


def measure_ours(asked: argparse.Namespace) -> dict[str, Any]:
    """Build the embedding file, and compare some of its vectors with the transform's and fp32's."""
    import dataclasses

    from laion_assets.models.loading import load_model
    from laion_assets.stages.clip_embeddings.build import build_embedding_file
    from laion_assets.stages.clip_embeddings.pipeline.pools import pool_starter
    from laion_assets.stages.clip_embeddings.settings import EmbeddingSettings
    from laion_assets.store.store import Store

    dataset = bench_dataset(Path(asked.folder), asked.rows, asked.shards, asked.model)
    settings = EmbeddingSettings(
        device=asked.device,
        precision=asked.precision,
        batch_size=asked.batch_size,
        decode_threads=asked.decode_threads,
    )
    dataset = dataclasses.replace(dataset, embeddings=settings)
    store = Store.of(dataset)
    model = load_model(asked.model, asked.device, asked.precision, start_pools=pool_starter(-1))
    _warm_up(model, asked.batch_size)
    rates = []
    with HostMemory() as memory:
        for _ in range(2):
            for folder in ("manifests/clip_embeddings", "clip_embeddings", "partial"):
                store.delete(folder)
            started = time.perf_counter()
            built = build_embedding_file(dataset, store, 0, model, lambda line: print(line, file=sys.stderr))
            rates.append(asked.rows / (time.perf_counter() - started))
    model.close()
    details = built.manifest.details
    return {
        "rate": rates[1],
        "rate_first": round(rates[0], 1),
        **{name: details[name] for name in ("device", "precision", "waited_s", "copy_s", "encode_s", "device_busy")},
        "host_mib": memory.grown_mib,
        "device_mib": _device_mib(model.device),
        **_cosines(dataset, store, asked),
    }


class HostMemory:
    """The growth in memory of this process and its children, with shared pages counted once (PSS), in MiB."""

    def __enter__(self) -> "HostMemory":
        self._before = self._peak = self._now()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def grown_mib(self) -> int:
        """The highest value so far, less that at the start."""
        return round((self._peak - self._before) / 1024)

    def _watch(self) -> None:
        while not self._done.wait(1):
            self._peak = max(self._peak, self._now())

    def _now(self) -> int:
        total = 0
        own = psutil.Process()
        for process in [own, *own.children(recursive=True)]:
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1])
        return total


def measure_model(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure the encoder alone, on random images and captions on the device."""
    import torch

    from laion_assets.models.loading import load_model

    model = load_model(asked.model, asked.device, asked.precision)
    context = model.tokenize(["a"]).shape[1]
    size = model.preprocessing.size if model.preprocessing else 224
    images = torch.randn((asked.batch_size, 3, size, size), device=model.device).to(model._dtype)
    tokens = torch.randint(1, 400, (asked.batch_size, min(context, _TOKENS)), device=model.device)
    rate = _rate(model, lambda: (model.image_vectors(images), model.text_vectors(tokens)), asked.batch_size)
    steps = {}
    if model.on_gpu:
        pixels = torch.randint(0, 256, (asked.batch_size, 256, 256, 3), dtype=torch.uint8, device=model.device)
        graphed = model.graphed_pixel_vectors(*pixels.shape[:3])
        steps = {
            "images_alone": _rate(model, lambda: model.image_vectors(images), asked.batch_size),
            "pixels_alone": _rate(model, lambda: model.pixel_vectors(pixels), asked.batch_size),
            "graphed_pixels_alone": _rate(model, lambda: graphed(pixels), asked.batch_size),
        }
    return {"rate": rate, **steps, "precision": model.precision, "device": model.device}


def _rate(model: Any, encode: Any, rows: int) -> float:
    """Measure rows encoded per second, over at least 2 s."""
    rounds, seconds = 0, 0.0
    for _ in range(3):
        encode()
    _wait(model.device)
    started = time.perf_counter()
    while seconds < 2:
        for _ in range(5 if model.on_gpu else 1):
            encode()
            rounds += 1
        _wait(model.device)
        seconds = time.perf_counter() - started
    return rounds * rows / seconds


def _cosines(dataset: Any, store: Any, asked: argparse.Namespace) -> dict[str, float]:
    """Compare our vectors with those of Pillow's transform in fp32, and with their neighbours."""
    import torch

    from laion_assets.models.images import decode_image
    from laion_assets.models.loading import load_model
    from laion_assets.stages.clip_embeddings.handle import ClipEmbeddings
    from laion_assets.stages.clip_embeddings.shard_reader import read_shard
    from laion_assets.stages.image_shards.handle import ImageShards
    from laion_assets.tables.vector_file import open_vectors

    reference = load_model(asked.model, asked.device, "fp32")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    shards = ImageShards(store, dataset.layout, (0,))
    samples = list(read_shard(store, dataset.layout, 0, shards.manifest(0)))[:_COMPARED]
    images = torch.stack([reference.preprocess(decode_image(sample.image)) for sample in samples])
    ours = {
        kind: np.array(open_vectors(store.local_path(ClipEmbeddings.path(dataset.layout, 0, kind))), dtype=np.float32)
        for kind in ("img_emb", "text_emb")
    }
    image_cosines = (ours["img_emb"][: len(samples)] * reference.encode_images(images)).sum(1)
    captions = [sample.caption for sample in samples]
    text_cosines = (ours["text_emb"][: len(samples)] * reference.encode_texts(captions)).sum(1)
    others = (ours["img_emb"][: len(samples) - 1] * ours["img_emb"][1 : len(samples)]).sum(1)
    return {
        "cosine_min": round(float(image_cosines.min()), 6),
        "cosine_median": round(float(np.median(image_cosines)), 6),
        "cosine_text_min": round(float(text_cosines.min()), 6),
        "cosine_of_others": round(float(np.median(others)), 4),
    }


def _warm_up(model: Any, batch_size: int) -> None:
    import torch

    pixels = torch.zeros((batch_size, 256, 256, 3), dtype=torch.uint8, device=model.device)
    for _ in range(3):
        model.pixel_vectors(pixels)
        for length in (16, 24) if model.shortens else (model.tokenize(["a"]).shape[1],):
            model.text_vectors(torch.ones((batch_size, length), dtype=torch.int32, device=model.device))
    _wait(model.device)


def _wait(device: str) -> None:
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def _device_mib(device: str) -> int:
    import torch

    return round(torch.cuda.max_memory_allocated() / 2**20) if torch.device(device).type == "cuda" else 0
