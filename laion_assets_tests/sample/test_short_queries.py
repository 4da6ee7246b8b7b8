"""Short queries: their training batches, their loss, and their precision over the crawl."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from laion_assets.sample.clip.batches import ATTRIBUTE_SIZES, UNKNOWN, make_batch
from laion_assets.sample.clip.model import CHECKPOINT, EVALUATION
from laion_assets.sample.clip.object_sets import (
    draw_object_set,
    render_object_set,
    true_sentences,
    write_captions,
)
from laion_assets.sample.clip.objective import query_loss
from laion_assets.sample.clip.short_queries import PLAIN_QUERIES, Query, draw_group, render_input, write_texts
from laion_assets.sample.clip.short_query_precision import (
    crawl_images,
    queries_by_kind,
    query_precisions,
    summarize_precisions,
)
from laion_assets.sample.scenes import COLOURS, SHAPES, Scene, Thing, is_held_out

RED_CIRCLE, BLUE_SQUARE = Thing("circle", "red", "small"), Thing("square", "blue", "large")


def test_query_is_true_only_if_one_object_has_all_its_words() -> None:
    things = (RED_CIRCLE, BLUE_SQUARE)
    assert Query("circle", "red", None).is_true(things)
    assert Query("circle", None, "small").is_true(things)
    assert Query(None, "blue", None).is_true(things)
    assert not Query("circle", "blue", None).is_true(things), "the words are of two objects"
    assert not Query("square", "blue", "small").is_true(things)
    assert Query("circle", "orange", None).texts == ("an orange circle", "orange circle")
    assert Query(None, "green", None).texts == ("something green", "green")


def test_every_shape_and_colour_is_a_query() -> None:
    assert len(PLAIN_QUERIES) == len(SHAPES) * len(COLOURS) + len(SHAPES) + len(COLOURS)
    assert {kind: len(found) for kind, found in queries_by_kind().items()} == {"object": 96, "shape": 12, "colour": 16}


@pytest.mark.parametrize("count", [1, 3])
def test_object_sets_are_deterministic_and_show_their_objects(count: int) -> None:
    for number in range(20):
        objects = draw_object_set(np.random.default_rng(number), count)
        assert objects == draw_object_set(np.random.default_rng(number), count)
        pixels = render_object_set(objects, 120, 90)
        assert pixels.shape == (90, 120, 3)
        assert np.array_equal(pixels, render_object_set(objects, 120, 90))
        for thing in objects.things:
            near = np.abs(pixels.astype(int) - COLOURS[thing.colour]).max(axis=2) < 40
            assert near.mean() > 0.005, objects
        assert set(write_captions(objects)) <= true_sentences(objects.things, objects.background)


def test_sentences_name_only_objects_that_are_shown() -> None:
    sentences = true_sentences((RED_CIRCLE, BLUE_SQUARE), "grey")
    assert {"a red circle", "a small red circle on a grey background", "a blue square and a red circle"} <= sentences
    assert not any("blue circle" in each or "large red" in each or "white" in each for each in sentences)


def test_texts_are_a_function_of_the_groups_and_the_generator() -> None:
    groups = [draw_group(np.random.default_rng(number)) for number in range(8)]
    texts, again = (write_texts(groups, np.random.default_rng(3)) for _ in range(2))
    assert texts.captions == again.captions != write_texts(groups, np.random.default_rng(4)).captions
    assert texts.queries == again.queries
    assert texts.truth.shape == (64, 64)
    assert texts.truth.diagonal().all()
    assert texts.hits.shape == (64, len(texts.queries))
    for attributes in (texts.image_attributes, texts.caption_attributes):
        assert all(column.max() < size for column, size in zip(attributes.T, ATTRIBUTE_SIZES, strict=True))
    assert (texts.caption_attributes == UNKNOWN).sum() > (texts.image_attributes == UNKNOWN).sum()


def test_no_held_out_combination_is_drawn() -> None:
    groups = [draw_group(np.random.default_rng(number)) for number in range(100)]
    scenes = [image for group in groups for image in group if isinstance(image, Scene)]
    assert len(scenes) == 600
    assert not any(is_held_out(scene) for scene in scenes)


def test_hits_agree_with_captions() -> None:
    groups = [draw_group(np.random.default_rng(number)) for number in range(40)]
    texts = write_texts(groups, np.random.default_rng(0))
    named = 0
    for column, query in enumerate(PLAIN_QUERIES):
        words = f"{query.colour} {query.shape}"
        for caption, hit in zip(texts.captions, texts.hits[:, column], strict=True):
            if words in caption:
                named += 1
                assert hit, caption
    assert named > 100


def test_batches_of_the_first_part_do_not_change() -> None:
    """The weights of the first part can be trained again only from the same batches."""
    batch = make_batch(1, 3, 4)
    parts = (batch.images.tobytes(), repr(batch.captions).encode(), batch.truth.tobytes())
    assert hashlib.md5(b"".join(parts)).hexdigest() == "0fb995cfcc734eb4ac8e3728000ec489"


def test_query_loss_falls_as_right_images_come_first() -> None:
    images = torch.eye(4)
    hits = torch.tensor([[True], [True], [False], [False]])
    right = query_loss(images, torch.tensor([[0.7, 0.7, 0.0, 0.0]]), hits)
    tied = query_loss(images, torch.full((1, 4), 0.5), hits)
    wrong = query_loss(images, torch.tensor([[0.0, 0.0, 0.7, 0.7]]), hits)
    assert right < 0.01 < tied < wrong
    none = torch.zeros(4, 1, dtype=torch.bool)
    both = query_loss(images, torch.tensor([[0.7, 0.7, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]), torch.cat([hits, none], 1))
    assert both == right, "a query without a right image does not count"


def test_precision_counts_images_with_the_queried_object() -> None:
    pages = crawl_images()[:60]
    queries = [Query("circle", None, None), Query(None, "red", None)]
    shown = np.array([[query.is_true((page.scene.first, page.scene.second)) for page in pages] for query in queries])
    coloured = np.array([page.kind != "grey_jpeg" for page in pages])
    truth = shown & np.stack([np.ones_like(coloured), coloured])
    assert (truth.sum(1) >= 10).all()
    assert query_precisions(truth.astype(float), queries, pages) == [1.0, 1.0]
    assert query_precisions(-truth.astype(float), queries, pages) == [0.0, 0.0]
    assert summarize_precisions([1.0, 0.8]) == {
        "queries": 2,
        "precision_at_10": 0.9,
        "minimum": 0.8,
        "at_least_0.9": 0.5,
    }


def test_published_precision_of_short_queries_can_be_reproduced() -> None:
    """Over a sixth of the crawl there are fewer right images, so precision@10 can only fall, by little."""
    from laion_assets.sample.clip.evaluate import Encoder, pipeline_jpeg

    published = json.loads(EVALUATION.read_text())["short_queries"]
    pages = crawl_images()[:800]
    encoder = Encoder(CHECKPOINT)
    images = encoder.images([pipeline_jpeg(page.scene, page.index) for page in pages])
    for kind, queries in queries_by_kind().items():
        similarity = encoder.captions([text for text, _ in queries]) @ images.T
        measured = summarize_precisions(query_precisions(similarity, [query for _, query in queries], pages))
        assert measured["precision_at_10"] >= published[kind]["precision_at_10"] - 0.15, kind


def test_frozen_and_last_stages_together_are_the_image_tower() -> None:
    from laion_assets.sample.clip.evaluate import Encoder
    from laion_assets.sample.clip.query_training import encode_features, run_frozen_stages
    from laion_assets.sample.clip.training_run import to_input

    rng = np.random.default_rng(0)
    pixels = to_input(np.stack([render_input(image, rng) for image in draw_group(rng)]))
    model = Encoder(CHECKPOINT).model
    with torch.no_grad():
        whole = model.encode_image(pixels, normalize=True)
        parts = encode_features(model.visual, run_frozen_stages(model.visual.trunk, pixels).float())
    assert (whole * parts).sum(1).min() > 0.999


def test_second_part_changes_the_last_stage_and_the_text_tower_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps over a small pool, started from the published weights."""
    from safetensors.torch import load_file

    from laion_assets.sample.clip import query_training

    monkeypatch.setattr(query_training, "POOL_GROUPS", 4)
    monkeypatch.setattr(query_training, "GROUPS", 2)
    monkeypatch.setattr(query_training, "HEAD_STEPS", 1)
    query_training.train_queries(1, 2, CHECKPOINT, tmp_path / "state", tmp_path / "weights.safetensors")
    before, after = load_file(CHECKPOINT), load_file(tmp_path / "weights.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = tuple(f"visual.trunk.{part}." for part in ("stem", "stages.0", "stages.1", "stages.2"))
    assert not [name for name in changed if name.startswith(frozen)]
    assert any(name.startswith("visual.trunk.stages.3.") for name in changed)
    assert "text_projection" in changed
