"""SigLIP and SigLIP 2, through open_clip and through transformers, have the vectors of these libraries."""

import io
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from laion_assets.errors import ModelError
from laion_assets.models.clip_model import ClipModel
from laion_assets.models.loading import load_model
from laion_assets.models.model_packages import _preprocessing_of_tags
from laion_assets.models.open_clip_package import import_open_clip
from laion_assets.models.preprocessing import Preprocessing
from laion_assets.models.weights import weights_identity
from laion_assets_tests.models.tiny_models import hugging_face_siglip, open_clip_siglip
from laion_assets_tests.stages.clip_embeddings.small_dataset import make_jpeg, register

CAPTIONS = [
    "a red circle left of a blue square",
    "The small HOUSE, by the river!",
    "",
    "星の夜",
    "boats and old trees " * 60,
    "redbluesquare" * 70,
    "x" * 5_000 + "red square",
]
HALF = (0.5, 0.5, 0.5)
KINDS = ("unigram", "bpe")


def images() -> list[Image.Image]:
    """Images of 96 x 80 px, and two of other shapes."""
    opened = [Image.open(io.BytesIO(make_jpeg(seed))).convert("RGB") for seed in range(4)]
    return [*opened, opened[0].resize((300, 120)), opened[1].resize((70, 260))]


def normalized(vectors: torch.Tensor) -> np.ndarray:
    array = vectors.detach().float().numpy()
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def assert_same(model: ClipModel, expected_images: np.ndarray, expected_texts: np.ndarray) -> None:
    """Both ways to encode an image, and the captions, have a cosine above 0.9999 with the library's own vectors."""
    transformed = model.encode_images(torch.stack([model.preprocess(image) for image in images()]))
    pixels = [torch.from_numpy(np.asarray(image)[None].copy()) for image in images()]
    on_device = np.concatenate([normalized(model.pixel_vectors(each)) for each in pixels])
    texts = model.encode_texts(CAPTIONS)
    for found, expected in ((transformed, expected_images), (on_device, expected_images), (texts, expected_texts)):
        assert (found * expected).sum(axis=1).min() > 0.9999
    # The comparison means something: other images and captions have other vectors.
    for expected in (expected_images[:4], expected_texts[[0, 4, 5]]):
        assert np.triu(expected @ expected.T, 1).max() < 0.999


def open_clip_vectors(name: str, tag: str) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of open_clip alone."""
    register()
    open_clip: Any = import_open_clip(name)
    model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=tag)
    model.eval()
    with torch.inference_mode():
        found = model.encode_image(torch.stack([preprocess(image) for image in images()]))
        return normalized(found), normalized(model.encode_text(open_clip.get_tokenizer(name)(CAPTIONS)))


@pytest.mark.parametrize("kind", KINDS)
def test_open_clip_s_siglip_by_tag_and_by_checkpoint(kind: str, tmp_path: Path) -> None:
    name, checkpoint = open_clip_siglip(tmp_path, kind)
    expected = open_clip_vectors(name, "webli")
    for model in (f"open_clip:{name}/webli", f"open_clip:{name}/{checkpoint}"):
        loaded = load_model(model, device="cpu")
        assert loaded.preprocessing == Preprocessing(160, True, "bicubic", HALF, HALF)
        assert not loaded.shortens, "its text tower attends to all positions"
        tokens = import_open_clip(name).get_tokenizer(name)(CAPTIONS)
        np.testing.assert_array_equal(loaded.tokenize(CAPTIONS), tokens.numpy())
        assert loaded.tokenize([]).shape == (0, 64), "a shard may be empty"
        assert_same(loaded, *expected)
    wrong, _ = open_clip_vectors(name, str(checkpoint))
    assert (wrong * expected[0]).sum(axis=1).min() < 0.99, "open_clip alone preprocesses for a checkpoint as OpenAI"


def test_a_tokenizer_next_to_the_checkpoint_is_used_offline(tmp_path: Path) -> None:
    name, checkpoint = open_clip_siglip(tmp_path)
    expected = open_clip_vectors(name, "webli")
    shutil.copytree(tmp_path / "tokenizer", checkpoint.parent, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "tokenizer")  # as if the architecture's tokenizer could not be downloaded
    assert_same(load_model(f"open_clip:{name}/{checkpoint}", device="cpu"), *expected)
    (checkpoint.parent / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(f"open_clip:{name}/{checkpoint}", device="cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_siglip(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoProcessor

    name = hugging_face_siglip(tmp_path, kind)
    library, processor = AutoModel.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path, use_fast=False)
    inputs = processor(
        text=CAPTIONS, images=images(), padding="max_length", max_length=64, truncation=True, return_tensors="pt"
    )
    with torch.inference_mode():
        found = library(**inputs)
    loaded = load_model(name, device="cpu")
    assert loaded.preprocessing == Preprocessing(48, True, "bicubic", HALF, HALF)
    assert loaded.identity == weights_identity(name)
    np.testing.assert_array_equal(loaded.tokenize(CAPTIONS), inputs["input_ids"].numpy())
    assert loaded.tokenize([]).shape == (0, 64)
    assert_same(loaded, normalized(found.image_embeds), normalized(found.text_embeds))


def test_the_tokenizers_can_be_sent_to_processes(tmp_path: Path) -> None:
    name, checkpoint = open_clip_siglip(tmp_path / "a")
    for model in (f"open_clip:{name}/{checkpoint}", hugging_face_siglip(tmp_path / "b")):
        tokenize = load_model(model, device="cpu").tokenize
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(tokenize))(CAPTIONS), tokenize(CAPTIONS))


def test_every_siglip_of_open_clip_is_preprocessed_by_its_tags() -> None:
    open_clip = import_open_clip()
    names = [name for name in open_clip.list_models() if "-SigLIP" in name and not name.startswith("laion-assets")]
    assert len(names) > 20
    expected = {
        "image_mean": HALF,
        "image_std": HALF,
        "image_interpolation": "bicubic",
        "image_resize_mode": "squash",
    }
    assert {name: _preprocessing_of_tags(name) for name in names} == dict.fromkeys(names, expected)
    assert _preprocessing_of_tags("ViT-B-32")["image_resize_mode"] == "shortest"
    assert _preprocessing_of_tags("no-such-architecture") == {}


def test_other_transformers_models_are_refused(tmp_path: Path) -> None:
    from transformers import BertConfig

    BertConfig(vocab_size=10).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"model type is 'bert'.*'clip' and 'siglip'"):
        load_model(f"hf_clip:{tmp_path}", device="cpu")
