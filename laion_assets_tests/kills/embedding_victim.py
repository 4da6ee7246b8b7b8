"""A process that builds embedding files and is killed meanwhile: `python -m laion_assets_tests.kills.embedding_victim`.

It imports the model's packages once; each run loads the model itself. A run appends one line per encoded batch to the
file `encoded` in the folder of the dataset's file: the number of images in it.
"""

import os
import sys
from pathlib import Path

from laion_assets.dataset.dataset import Dataset
from laion_assets.models.loading import load_model
from laion_assets.stages.clip_embeddings.build import build_embedding_file
from laion_assets.store.store import Store
from laion_assets_tests.kills.victim import serve
from laion_assets_tests.stages.clip_embeddings.small_dataset import register


def _build_embeddings(dataset: Dataset, kind: str) -> None:
    import torch

    torch.set_num_threads(1)
    model = load_model(dataset.model, device="cpu")
    encode = model.pixel_vectors
    record = os.open(Path(sys.argv[1]).with_name("encoded"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def encode_and_record(pixels: torch.Tensor) -> torch.Tensor:
        vectors = encode(pixels)
        os.write(record, b"%d\n" % len(pixels))
        return vectors

    model.pixel_vectors = encode_and_record  # type: ignore[method-assign]
    for embedding in dataset.layout.embedding_numbers:
        build_embedding_file(dataset, Store.of(dataset), embedding, model, lambda line: None)


if __name__ == "__main__":
    register()
    serve(_build_embeddings)
