"""The second part of the training: the last stage of the image tower and the text tower learn short queries.

The first three stages of the image tower see single objects already, and stay as they are. So their output is computed
once for each image of a pool, and a step takes a third of the time. The texts of an image are new in each step.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from laion_assets.sample.clip.batches import make_captions
from laion_assets.sample.clip.object_sets import ObjectSet
from laion_assets.sample.clip.objective import attribute_loss, contrastive_loss, object_loss, query_loss
from laion_assets.sample.clip.short_queries import (
    GROUP_SIZE,
    PLAIN_QUERIES,
    Texts,
    draw_group,
    render_input,
    write_texts,
)
from laion_assets.sample.clip.training_run import ATTRIBUTE_WEIGHT, TrainingRun, learning_rate, to_input
from laion_assets.sample.scenes import Scene

POOL_GROUPS = 3_072
"""Groups of eight images whose features are computed: 24,576 images."""
GROUPS = 32
"""Groups per step: a batch of 256."""
LEARNING_RATE = 1.5e-3
CYCLE_STEPS = 800
"""Steps after which the schedule of the learning rate starts again (https://arxiv.org/abs/1608.03983)."""
HEAD_STEPS = 100
"""Steps of the new attribute layer alone, so that its first gradients do not disturb the towers."""
HEAD_LEARNING_RATE = 1e-2
QUERY_WEIGHT = 2.0
"""Weight of the loss of the short queries relative to the contrastive one."""
OBJECT_WEIGHT = 0.3
"""Weight of the auxiliary loss that predicts objects from images."""
_IMAGES_AT_ONCE = 256


def train_queries(seed: int, steps: int, start: Path, state: Path, weights: Path) -> None:
    """Continue from the weights in `start`, with checkpoints in `state`, then write `weights` (float16)."""
    torch.manual_seed(seed)
    run = TrainingRun(start, state, steps)
    trunk = run.model.visual.trunk
    for part in (trunk.stem, *trunk.stages[:-1]):
        part.requires_grad_(False)
    if not run.done:
        _train_attribute_head(run, seed)
    groups, features = _build_pool(trunk, seed)
    for step in range(run.done, steps):
        rng = np.random.default_rng((seed, step, 2))
        chosen = rng.choice(POOL_GROUPS, size=GROUPS, replace=False)
        texts = write_texts([groups[place] for place in chosen.tolist()], rng)
        places = torch.from_numpy((chosen[:, None] * GROUP_SIZE + np.arange(GROUP_SIZE)).ravel())
        rate = learning_rate(step % CYCLE_STEPS, CYCLE_STEPS, LEARNING_RATE)
        run.train_step(_compute_loss(run, features[places], texts), rate)
    run.write_weights(weights)


def _build_pool(trunk: Any, seed: int) -> tuple[list[list[Scene | ObjectSet]], torch.Tensor]:
    """Draw the groups, and compute the output of the frozen stages: (images, 160, 4, 4) bfloat16."""
    rng = np.random.default_rng((seed, 1))
    groups = [draw_group(rng) for _ in range(POOL_GROUPS)]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        features = [
            run_frozen_stages(trunk, to_input(np.stack([render_input(image, rng) for image in images])))
            for images in _chunks([image for group in groups for image in group])
        ]
    print(json.dumps({"pool_images": POOL_GROUPS * GROUP_SIZE}), flush=True)
    return groups, torch.cat(features).contiguous(memory_format=torch.channels_last)


def _chunks(images: list[Scene | ObjectSet]) -> Iterator[list[Scene | ObjectSet]]:
    for start in range(0, len(images), _IMAGES_AT_ONCE):
        yield images[start : start + _IMAGES_AT_ONCE]


def run_frozen_stages(trunk: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Return the output of the first stages: (n, 160, 4, 4) bfloat16."""
    output = trunk.stem(pixels)
    for stage in trunk.stages[:-1]:
        output = stage(output)
    return output.bfloat16()


def encode_features(visual: Any, features: torch.Tensor) -> torch.Tensor:
    """Encode the output of the frozen stages as open_clip does: (n, d), rows of norm 1."""
    trunk = visual.trunk
    pooled = visual.head(trunk.forward_head(trunk.norm_pre(trunk.stages[-1](features))))
    return torch.nn.functional.normalize(pooled, dim=-1)


def _compute_loss(run: TrainingRun, features: torch.Tensor, texts: Texts) -> torch.Tensor:
    model = run.model
    with torch.autocast("cpu", torch.bfloat16):
        images = encode_features(model.visual, features).float()
        encoded = model.encode_text(run.tokenizer([*texts.captions, *texts.queries]), normalize=True).float()
    captions, queries = encoded.split((len(texts.captions), len(texts.queries)))
    loss = contrastive_loss(images, captions, model.logit_scale.exp(), torch.from_numpy(texts.truth))
    for embeddings, attributes in ((images, texts.image_attributes), (captions, texts.caption_attributes)):
        loss = loss + ATTRIBUTE_WEIGHT * attribute_loss(model.attribute_head, embeddings, attributes)
    hits = torch.from_numpy(texts.hits)
    objects = object_loss(model.object_head, images, hits[:, : len(PLAIN_QUERIES)])
    return loss + QUERY_WEIGHT * query_loss(images, queries, hits) + OBJECT_WEIGHT * objects


def _train_attribute_head(run: TrainingRun, seed: int) -> None:
    optimizer = torch.optim.AdamW(run.model.attribute_head.parameters(), HEAD_LEARNING_RATE)
    loss = math.nan
    for step in range(HEAD_STEPS):
        captions, attributes = make_captions(seed, step, _IMAGES_AT_ONCE)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            embeddings = run.model.encode_text(run.tokenizer(captions), normalize=True)
        drawn = attribute_loss(run.model.attribute_head, embeddings.float(), attributes)
        optimizer.zero_grad(set_to_none=True)
        drawn.backward()
        optimizer.step()
        loss = drawn.item()
    print(json.dumps({"head_steps": HEAD_STEPS, "loss": round(loss, 4)}), flush=True)
