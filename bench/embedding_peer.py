"""The peer of the benchmark of embeddings: clip-retrieval's inference, unmodified, in a process of its own.

clip-retrieval's logger starts processes that import this file again, so the preparation for the import is at module
level: the package imports web servers, which a machine for embeddings does not have, and wandb, which is not used.
"""

import argparse
import importlib.machinery
import importlib.util
import json
import shutil
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.embedding_shards import bench_dataset
from laion_assets.models.open_clip_package import import_open_clip
from laion_assets.sample.clip.model import ARCHITECTURE, clip_retrieval_name


def _make_importable() -> None:
    if importlib.util.find_spec("wandb") is None:
        sys.modules["wandb"] = importlib.util.module_from_spec(importlib.machinery.ModuleSpec("wandb", None))
    package = types.ModuleType("clip_retrieval")
    package.__path__ = list(importlib.util.find_spec("clip_retrieval").submodule_search_locations)
    sys.modules["clip_retrieval"] = package
    import_open_clip(ARCHITECTURE)


_make_importable()


def measure_peer(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure clip-retrieval's inference over the same tars, with its defaults except for batch size and workers."""
    if asked.model == "sample-clip":
        asked.model = clip_retrieval_name()
    from clip_retrieval.clip_inference.main import main as inference

    output = Path(asked.folder) / "peer"
    shutil.rmtree(output, ignore_errors=True)
    workers = int(asked.workers)
    shards = bench_dataset(Path(asked.folder), asked.rows, asked.shards, asked.model).root
    started = time.perf_counter()
    inference(
        input_dataset=f"{shards}/bench/image_shards/{{00000..{asked.shards - 1:05d}}}.tar",
        output_folder=str(output),
        input_format="webdataset",
        batch_size=asked.batch_size,
        num_prepro_workers=workers,
        enable_metadata=True,
        clip_model=asked.model,
        write_batch_size=10**6,
        wds_number_file_per_input_file=-(-asked.rows // asked.shards),
    )
    seconds = time.perf_counter() - started
    stats = json.loads((output / "stats" / "0.json").read_text(encoding="utf-8"))
    written = len(np.load(output / "img_emb" / "img_emb_0.npy", mmap_mode="r"))
    if written != asked.rows:
        sys.exit(f"the peer wrote {written} of {asked.rows} rows")
    return {
        "rate": stats["sample_count"] / stats["total_duration"],
        "whole": asked.rows / seconds,
        "workers": workers,
        **{name: round(stats[name], 2) for name in ("read_duration", "inference_duration", "write_duration")},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("folder", "model", "device", "precision"):
        parser.add_argument(f"--{name}")
    for name in ("workers", "rows", "shards", "batch-size", "decode-threads"):
        parser.add_argument(f"--{name}", type=int)
    from bench.embeddings import RESULT

    print(RESULT, json.dumps(measure_peer(parser.parse_args())))
