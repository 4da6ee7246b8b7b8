"""The small CLIP model: its names, its size, and its evaluation."""

import json
from pathlib import Path

import numpy as np
import pytest

from laion_assets.models.open_clip_package import import_open_clip
from laion_assets.sample.clip.batches import ATTRIBUTE_SIZES, UNKNOWN, attributes, make_batch
from laion_assets.sample.clip.model import ARCHITECTURE, CHECKPOINT, EVALUATION, clip_retrieval_name
from laion_assets.sample.scenes import draw_scene, is_held_out

IMAGES = 200


@pytest.fixture(scope="module")
def figures() -> dict:
    return json.loads(EVALUATION.read_text())


def test_the_weights_are_small_and_half_precision() -> None:
    from safetensors import safe_open

    assert CHECKPOINT.stat().st_size <= 20_000_000
    with safe_open(CHECKPOINT, "np") as weights:
        names = list(weights.keys())
        assert {str(weights.get_slice(name).get_dtype()) for name in names} == {"F16"}
        assert weights.get_slice("token_embedding.weight").get_shape()[0] == 49_408


def test_published_evaluation_reaches_its_targets(figures: dict) -> None:
    assert figures["images"] == 1_000
    assert figures["held_out"]["recall_at_1"] >= 0.98
    assert figures["held_out"]["recall_at_10"] >= 0.99
    assert figures["swapped_pairs"]["caption_accuracy"] >= 0.99
    assert figures["swapped_pairs"]["image_accuracy"] >= 0.99
    for kind, queries, least in (("object", 96, 0.98), ("shape", 12, 0.98), ("colour", 16, 0.98)):
        assert figures["short_queries"][kind]["queries"] == queries
        assert figures["short_queries"][kind]["precision_at_10"] >= least
    assert figures["colour_histogram"]["recall_at_1"] < figures["held_out"]["recall_at_1"] / 2
    assert figures["untrained"]["recall_at_10"] < 0.05


def test_evaluation_can_be_reproduced(figures: dict) -> None:
    """With fewer images recall@1 can only rise, up to the noise of 200 queries."""
    from laion_assets.sample.clip.evaluate import Encoder, distinct_scenes, pipeline_jpeg, recalls

    scenes = distinct_scenes(IMAGES, held_out=True)
    assert all(is_held_out(scene) for scene in scenes)
    encoder = Encoder(CHECKPOINT)
    images = encoder.images([pipeline_jpeg(scene, number) for number, scene in enumerate(scenes)])
    captions = encoder.captions([scene.caption for scene in scenes])
    assert images.shape == captions.shape == (IMAGES, 128)
    assert np.allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)
    measured = recalls(captions @ images.T)
    assert measured["recall_at_1"] >= figures["held_out"]["recall_at_1"] - 0.05
    assert measured["recall_at_10"] >= figures["held_out"]["recall_at_10"] - 0.02
    swapped = encoder.captions([scene.swapped.caption for scene in scenes])
    apart = ((images * captions).sum(1) > (images * swapped).sum(1)).mean()
    assert apart == pytest.approx(figures["swapped_pairs"]["caption_accuracy"], abs=0.06)


def test_preprocessing_is_the_same_as_in_training() -> None:
    from PIL import Image

    from laion_assets.sample.clip.evaluate import Encoder
    from laion_assets.sample.clip.training_run import to_input

    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    preprocessed = Encoder(None).preprocess(Image.fromarray(pixels))
    assert np.allclose(preprocessed.numpy(), to_input(pixels[None])[0].numpy(), atol=1e-5)


def test_all_clip_loads_the_same_model_by_its_name() -> None:
    from laion_assets.sample.clip.evaluate import Encoder

    import_open_clip(ARCHITECTURE)
    import_open_clip(ARCHITECTURE)
    from all_clip import load_clip

    name = clip_retrieval_name()
    kind, _, path = name.partition("//")
    assert kind == "open_clip:laion-assets-sample"
    assert Path("/", path).samefile(CHECKPOINT)
    model, _, tokenizer = load_clip(name, use_jit=False, device="cpu")
    caption = "a red circle left of a blue square"
    theirs = model.encode_text(tokenizer([caption])).detach().numpy()[0]
    ours = Encoder(CHECKPOINT).captions([caption])[0]
    assert np.dot(theirs / np.linalg.norm(theirs), ours) > 0.9999


def test_image_has_the_same_embedding_in_any_batch_and_mode() -> None:
    """clip-retrieval does not switch a model to evaluation mode, so nothing in it may depend on the batch."""
    import torch

    from laion_assets.sample.clip.evaluate import Encoder

    model = Encoder(CHECKPOINT).model
    batch = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = model.eval().encode_image(batch)
        alone = torch.cat([model.train().encode_image(each[None]) for each in batch])
    assert torch.allclose(together, alone, atol=1e-4)


def test_batches_are_a_function_of_seed_and_step_and_hold_nothing_held_out() -> None:
    batch, again = make_batch(3, 7, 8), make_batch(3, 7, 8)
    assert np.array_equal(batch.images, again.images)
    assert batch.captions == again.captions
    assert batch.captions != make_batch(3, 8, 8).captions
    assert batch.images.shape == (64, 64, 64, 3)
    assert batch.truth.diagonal().all()
    assert batch.image_attributes.shape == batch.caption_attributes.shape == (64, len(ATTRIBUTE_SIZES))
    assert all(column.max() < size for column, size in zip(batch.image_attributes.T, ATTRIBUTE_SIZES, strict=True))


def test_attributes_describe_what_an_image_shows() -> None:
    for number in range(50):
        scene = draw_scene(np.random.default_rng(number))
        assert attributes(scene) == attributes(scene.inverted)
        assert attributes(scene) != attributes(scene.swapped)
        assert attributes(scene).count(UNKNOWN) == 6


def test_recall_counts_ties_as_lost() -> None:
    from laion_assets.sample.clip.evaluate import recalls

    assert recalls(np.eye(20)) == {"recall_at_1": 1.0, "recall_at_10": 1.0}
    assert recalls(np.ones((20, 20))) == {"recall_at_1": 0.0, "recall_at_10": 0.0}
