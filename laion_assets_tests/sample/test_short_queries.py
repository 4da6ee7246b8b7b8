"""Short queries: their training batches, their loss, and their precision over the crawl."""

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from laion_assets.sample.clip.batches import ATTRIBUTE_SIZES, UNKNOWN, make_batch
from laion_assets.sample.clip.model import CHECKPOINT, EVALUATION
from laion_assets.sample.clip.object_sets import (
    draw_object_set,
    render_object_set,
    true_sentences,
    write_captions,
)
from laion_assets.sample.clip.objective import query_loss
from laion_assets.sample.clip.query_training import DECAY_STEPS, decaying_rate
from laion_assets.sample.clip.short_queries import (
    GROUP_SIZE,
    PLAIN_QUERIES,
    Query,
    draw_group,
    make_query_batch,
    write_texts,
)
from laion_assets.sample.clip.short_query_precision import (
    crawl_images,
    queries_by_kind,
    query_precisions,
    summarize_precisions,
)
from laion_assets.sample.clip.training_run import WARMUP_STEPS
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


def test_images_that_the_site_serves_without_colours_are_searched_without_colours() -> None:
    from laion_assets.sample.clip.evaluate import crawl_jpeg

    page = next(page for page in crawl_images() if page.kind == "grey_jpeg")
    stored = [crawl_jpeg(each) for each in (page, replace(page, kind="jpeg"))]
    grey, coloured = (np.asarray(Image.open(io.BytesIO(body)).convert("RGB")).astype(int) for body in stored)
    assert np.ptp(grey, axis=2).max() < 8
    assert np.ptp(coloured, axis=2).max() > 50


def test_published_precision_of_short_queries_can_be_reproduced() -> None:
    """Over a sixth of the crawl there are fewer right images, so precision@10 can only fall, by little."""
    from laion_assets.sample.clip.evaluate import Encoder, crawl_jpeg

    published = json.loads(EVALUATION.read_text())["short_queries"]
    pages = crawl_images()[:800]
    encoder = Encoder(CHECKPOINT)
    images = encoder.images([crawl_jpeg(page) for page in pages])
    for kind, queries in queries_by_kind().items():
        similarity = encoder.captions([text for text, _ in queries]) @ images.T
        measured = summarize_precisions(query_precisions(similarity, [query for _, query in queries], pages))
        assert measured["precision_at_10"] >= published[kind]["precision_at_10"] - 0.05, kind


def test_query_batches_are_a_function_of_seed_and_step() -> None:
    images, texts = make_query_batch(1, 5, 2)
    again, texts_again = make_query_batch(1, 5, 2)
    assert images.shape == (2 * GROUP_SIZE, 64, 64, 3)
    assert np.array_equal(images, again)
    assert texts.queries == texts_again.queries
    assert np.array_equal(texts.hits, texts_again.hits)
    assert not np.array_equal(images, make_query_batch(1, 6, 2)[0])


def test_learning_rate_of_the_second_part_is_constant_between_warm_up_and_decay() -> None:
    steps = 3 * DECAY_STEPS
    rates = [decaying_rate(step, steps) for step in range(steps)]
    begin, end = WARMUP_STEPS - 1, steps - DECAY_STEPS
    assert set(rates[begin : end + 1]) == {max(rates)}
    assert rates[:begin] == sorted(rates[:begin])
    assert rates[end:] == sorted(rates[end:], reverse=True)
    assert 0 < rates[-1] < max(rates) / 100


def test_second_part_continues_as_if_it_had_not_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small steps, started from the published weights, change both towers."""
    from safetensors.torch import load_file

    from laion_assets.sample.clip import query_training, training_run

    monkeypatch.setattr(training_run, "VALIDATION_SCENES", 10)
    for name in ("GROUPS", "HEAD_STEPS", "DECAY_STEPS"):
        monkeypatch.setattr(query_training, name, 1)
    for steps, state in ((1, "stopped"), (2, "stopped"), (2, "whole")):
        query_training.train_queries(1, steps, CHECKPOINT, tmp_path / state, tmp_path / f"{state}.safetensors")
    before, stopped, whole = map(
        load_file, (CHECKPOINT, tmp_path / "stopped.safetensors", tmp_path / "whole.safetensors")
    )
    assert before.keys() == whole.keys()
    assert not [name for name in whole if not torch.equal(stopped[name], whole[name])]
    changed = {name for name in whole if not torch.equal(before[name], whole[name])}
    assert {"text_projection", "visual.trunk.stages.0.blocks.0.mlp.fc1.weight"} <= changed
