"""A model's name decides which package is imported, and the vectors are those of clip-retrieval's own loader."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from laion_assets.dataset.dataset import SAMPLE_MODEL
from laion_assets.models.images import decode_image
from laion_assets.models.loading import load_model
from laion_assets.models.open_clip_package import import_open_clip
from laion_assets.sample.clip.model import ARCHITECTURE, clip_retrieval_name
from laion_assets_tests.models.tiny_models import (
    architecture_with_hugging_face_text,
    hugging_face_folder,
    openai_checkpoint,
)
from laion_assets_tests.stages.clip_embeddings.small_dataset import make_jpeg, model_name

CAPTIONS = ["", "a red circle left of a blue square", "星の夜", "word " * 100]
MODELS: dict[str, Callable[[Path], str]] = {
    "the sample's": lambda folder: SAMPLE_MODEL,
    "an open_clip checkpoint": lambda folder: model_name(),
    "a Hugging Face folder": hugging_face_folder,
    "an OpenAI checkpoint": openai_checkpoint,
}


def normalized(vectors: torch.Tensor) -> np.ndarray:
    array = vectors.detach().float().numpy()
    return array / np.linalg.norm(array, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", MODELS)
def test_vectors_equal_those_of_all_clip_bit_for_bit(kind: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    name = MODELS[kind](tmp_path)
    ours = load_model(name, device="cpu")
    import_open_clip(ARCHITECTURE)
    from all_clip import load_clip

    theirs, preprocess, tokenizer = load_clip(
        clip_retrieval_name() if name == SAMPLE_MODEL else name, use_jit=False, device="cpu"
    )
    theirs.eval()
    images = [decode_image(make_jpeg(seed)) for seed in range(4)]
    pixels = torch.stack([preprocess(image).reshape(3, *ours.preprocess(image).shape[1:]) for image in images])
    assert torch.equal(torch.stack([ours.preprocess(image) for image in images]), pixels)
    with torch.inference_mode():
        np.testing.assert_array_equal(ours.encode_images(pixels), normalized(theirs.encode_image(pixels)))
        tokens = tokenizer(CAPTIONS)
        np.testing.assert_array_equal(ours.tokenize(CAPTIONS), tokens.numpy())
        expected = normalized(theirs.encode_text(tokens))
    np.testing.assert_array_equal(ours.encode_texts(CAPTIONS), expected)
    assert np.triu(expected @ expected.T, 1).max() < 0.9999, "different captions have different vectors"


IMPORTED = """
import sys
from laion_assets.models.open_clip_package import import_open_clip
imported = [name for name in ("timm", "transformers", "wandb") if name in sys.modules]
assert not imported, imported
open_clip = import_open_clip(sys.argv[1])
print(*(name for name in ("timm", "transformers", "wandb") if name in sys.modules))
"""


@pytest.mark.parametrize(
    ("architecture", "expected"), [("ViT-B-32", ""), (ARCHITECTURE, "timm"), ("roberta-ViT-B-32", "transformers")]
)
def test_only_the_packages_of_the_architecture_are_imported(architecture: str, expected: str) -> None:
    command = [sys.executable, "-c", IMPORTED, architecture]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == expected


LATE = """
import sys
from pathlib import Path
from laion_assets.models.loading import load_model
from laion_assets.models.open_clip_package import import_open_clip
assert load_model("sample-clip", device="cpu").width == 128
assert not {"transformers", "torch._dynamo"} & set(sys.modules)
path = Path(sys.argv[1])
import_open_clip().add_model_config(path)
open_clip = import_open_clip(path.stem)
import torch
model = open_clip.create_model(path.stem, pretrained_hf=False)
compiled = torch.compile(lambda number: number + 1, backend="eager")  # torch's own compiler, after the stand-in
print(tuple(model.encode_text(torch.ones((2, 5), dtype=torch.int64)).shape), compiled(torch.ones(1)).item())
"""


def test_an_architecture_that_needs_more_packages_loads_after_one_that_needs_fewer(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LATE, str(architecture_with_hugging_face_text(tmp_path))]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == "(2, 16) 2.0"
