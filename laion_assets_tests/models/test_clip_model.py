"""Models: the same vectors in any batch, for any caption, or an error with the fix."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from laion_assets.errors import EmbeddingError, ModelError
from laion_assets.models.captions import clean_caption, shorten_words
from laion_assets.models.loading import load_model
from laion_assets.models.weights import weights_identity
from laion_assets.stages.clip_embeddings.pipeline.decoding import decode_image as decoded
from laion_assets_tests.models.tiny_models import hugging_face_folder
from laion_assets_tests.stages.clip_embeddings.small_dataset import make_jpeg, model_name, random_model

CAPTIONS = [
    "",
    " ",
    "a red circle",
    "word " * 500,
    "x" * 60_000,
    "星の夜" * 20_000,
    "!" * 60_000,
    "\ud800",
    "a\0b",
    "كتاب",
    "🐶",
]


def pixels(count: int) -> torch.Tensor:
    model = random_model()
    return torch.stack([model.preprocess(decoded(make_jpeg(seed))) for seed in range(count)])


def test_vectors_are_float32_of_norm_1() -> None:
    model = random_model()
    for vectors in (model.encode_images(pixels(5)), model.encode_texts(["a", "b", "c", "d", "e"])):
        assert vectors.shape == (5, model.width)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_empty_input_has_empty_output() -> None:
    assert random_model().encode_texts([]).shape == (0, random_model().width)


def test_identity_names_the_weights() -> None:
    assert random_model().identity == weights_identity(model_name())
    assert "@" in random_model().identity


def test_one_by_one_or_all_at_once_is_the_same() -> None:
    model, batch = random_model(), pixels(9)
    together = model.encode_images(batch)
    alone = np.concatenate([model.encode_images(batch[i : i + 1]) for i in range(9)])
    assert (together * alone).sum(axis=1).min() > 0.9999
    # Different images have different vectors, so the comparison means something.
    assert np.triu(together @ together.T, 1).max() < 0.999


def test_captions_of_any_script_and_length_are_deterministic_and_quick() -> None:
    model = random_model()
    started = time.monotonic()
    first = model.encode_texts(CAPTIONS)
    assert time.monotonic() - started < 5
    np.testing.assert_array_equal(first, model.encode_texts(CAPTIONS))
    assert np.isfinite(first).all()


@pytest.mark.parametrize(
    "caption", ["a red circle left of a blue square", "word " * 3_000, "x" * 500, "&amp; &lt;b&gt; ué"]
)
def test_cleaning_changes_no_tokens(caption: str) -> None:
    import open_clip

    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    assert torch.equal(tokenizer([shorten_words(clean_caption(caption))]), tokenizer([caption]))


def test_tokenizer_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    import laion_assets.models.tokenizer as module

    monkeypatch.setattr(module, "_MAX_CACHED_WORDS", 50)
    model = load_model(model_name(), device="cpu")
    before = model.encode_texts(["red circle"])
    for start in range(0, 300, 20):
        model.encode_texts([f"word{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(start, start + 20)])
        assert len(model.tokenize._tokenizer.cache) < 100
    np.testing.assert_array_equal(before, model.encode_texts(["red circle"]))


def test_out_of_gpu_memory_halves_the_batch_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = load_model(model_name(), device="cpu"), pixels(13)
    expected, sizes, encode = model.encode_images(batch), [], model._model.encode_image

    def small_memory(part: torch.Tensor) -> torch.Tensor:
        sizes.append(len(part))
        if len(part) > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return encode(part)

    monkeypatch.setattr(model._model, "encode_image", small_memory)
    assert (model.encode_images(batch) * expected).sum(axis=1).min() > 0.9999
    assert sizes == [13, 6, 3, 3, 3, 3, 1]
    sizes.clear()
    model.encode_images(batch)
    assert max(sizes) == 3, "the size that fits is remembered"


def test_single_image_that_does_not_fit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(model_name(), device="cpu")

    def no_memory(part: torch.Tensor) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model._model, "encode_image", no_memory)
    with pytest.raises(EmbeddingError, match=r"embeddings\.device"):
        model.encode_images(pixels(3))


@pytest.mark.parametrize("value", [float("nan"), 0.0, float("inf")])
def test_vectors_without_direction_are_named(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    model = load_model(model_name(), device="cpu")
    encode = model._model.encode_image

    def broken(part: torch.Tensor) -> torch.Tensor:
        vectors = encode(part).clone()
        vectors[2] = value
        return vectors

    monkeypatch.setattr(model._model, "encode_image", broken)
    with pytest.raises(EmbeddingError, match="row 2"):
        model.encode_images(pixels(4))
    with pytest.raises(EmbeddingError, match="000000007"):
        model.encode_images(pixels(3), ["000000005", "000000006", "000000007"])


MISSING = ["open_clip:laion-assets-sample//not/there.safetensors", "open_clip:NO-SUCH-ARCH/tag", "hf_clip:/not/there"]


@pytest.mark.parametrize("name", MISSING)
def test_unavailable_model_is_a_model_error(name: str) -> None:
    with pytest.raises(ModelError, match=r"cannot be (loaded|read)"):
        load_model(name, device="cpu")


def test_unavailable_device_is_a_model_error() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match=r"embeddings\.device"):
            load_model(model_name(), device="cuda")
    with pytest.raises(ModelError, match=r"embeddings\.precision"):
        load_model(model_name(), device="cpu", precision="fp16")


def test_a_hugging_face_folder_is_a_model(tmp_path) -> None:
    model = load_model(hugging_face_folder(tmp_path), device="cpu")
    batch = torch.stack([model.preprocess(Image.new("RGB", (64, 48), colour)) for colour in ("red", "blue")])
    assert batch.shape == (2, 3, 32, 32)
    assert model.encode_images(batch).shape == (2, model.width) == (2, 16)
    assert model.encode_texts(CAPTIONS).shape == (len(CAPTIONS), 16)


def test_two_models_are_never_built_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service of two models loads each in a thread. Imports of the packages that build them are not thread-safe."""
    building, most = [], []

    def build(name: str, device: str) -> None:
        building.append(name)
        most.append(len(building))
        time.sleep(0.05)
        building.remove(name)
        raise RuntimeError("built")

    monkeypatch.setattr("laion_assets.models.model_packages.build_model", build)
    with ThreadPoolExecutor(3) as pool:
        loads = [pool.submit(load_model, model_name(), "cpu") for _ in range(3)]
    assert most == [1, 1, 1]
    for load in loads:
        with pytest.raises(ModelError, match="built"):
            load.result()
